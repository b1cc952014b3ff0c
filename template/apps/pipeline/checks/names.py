"""Checks the names of Celery settings."""

from collections.abc import Iterator

from celery.app.defaults import SETTING_KEYS
from django.conf import settings
from django.core.checks import CheckMessage, Error

from apps.pipeline.checks.suggestions import did_you_mean

REDBEAT = ("key_prefix", "lock_key", "lock_timeout", "redis_options", "redis_url", "redis_use_ssl")
NAMES = {f"CELERY_{key.upper()}" for key in [*SETTING_KEYS, *(f"redbeat_{key}" for key in REDBEAT)]}


def names() -> Iterator[CheckMessage]:
    """Find settings that Celery silently ignores."""
    for name in dir(settings):
        if name.startswith("CELERY") and name not in NAMES:
            hint = did_you_mean(name, NAMES) or "Remove it, because nothing reads it."
            yield Error(f"{name} is not a Celery setting.", hint, id="pipeline.E001")
