"""The Celery application: `celery -A config worker` and `celery -A config beat` find it here."""

import os

from celery import Celery
from celery.signals import import_modules
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

# Redis' transports, without the moments in which a broker that restarts costs a message.
TRANSPORT_ALIASES.update(
    redis="apps.pipeline.transport:Transport",
    rediss="apps.pipeline.transport:Transport",
    sentinel="apps.pipeline.transport:SentinelTransport",
)

app = Celery("config", task_cls="apps.pipeline.task:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Celery and its command line prefer these variables to the settings, and know no short names.
for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_BEAT_SCHEDULER"):
    if name in os.environ:
        os.environ[name] = getattr(settings, name)

app.autodiscover_tasks()
app.steps["worker"].update(("apps.pipeline.worker:Patience", "apps.pipeline.worker:SoftShutdown"))
app.steps["consumer"].add("apps.pipeline.worker:Heartbeat")


@import_modules.connect(sender=app)
def refuse_wrong_configuration(**kwargs: object) -> None:  # noqa: ARG001 - the signal's
    """Before worker and Beat start: a wrong setting ends them in words, not in a traceback."""
    from apps.pipeline.checks import report_and_exit

    report_and_exit()
