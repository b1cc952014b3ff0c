"""What Sentry gets from web, worker and Beat, if SENTRY_DSN is set. See docs/logs.md."""

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration

from config.settings.env import env


def init(dsn: str) -> None:
    """Send errors to Sentry, and each run of a schedule, so that it notices a missing run."""
    sentry_sdk.init(
        dsn=dsn,
        integrations=[CeleryIntegration(monitor_beat_tasks=env.bool("SENTRY_CHECK_INS", True))],
        traces_sample_rate=env.float("SENTRY_TRACES_SAMPLE_RATE", 0),
        include_local_variables=False,  # among them the arguments of tasks
    )
