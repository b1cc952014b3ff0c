"""Checks the names of Celery settings."""

from collections.abc import Iterator
from difflib import get_close_matches

from celery.app.defaults import SETTING_KEYS
from django.conf import settings
from django.core import checks

from apps.pipeline.checks.suggestions import did_you_mean

REDBEAT = ("key_prefix", "lock_key", "lock_timeout", "redis_options", "redis_url", "redis_use_ssl")
NAMES = {f"CELERY_{key.upper()}" for key in [*SETTING_KEYS, *(f"redbeat_{key}" for key in REDBEAT)]}


def names() -> Iterator[checks.CheckMessage]:
    """Find settings that Celery silently ignores."""
    for name in dir(settings):
        if name.startswith("CELERY") and name not in NAMES:
            if hint := did_you_mean(name, (known for known in NAMES if alike(name, known))):
                yield checks.Error(f"{name} is not a Celery setting.", hint, id="pipeline.E001")
            else:
                hint = "Remove it. If a package reads it, silence pipeline.W005."
                yield checks.Warning(f"Celery does not read {name}.", hint, id="pipeline.W005")


def alike(name: str, known: str) -> bool:
    """Whether each word of the name is like a word of the known name.

    CELERY_EMAIL_BACKEND of django-celery-email is not a misspelt CELERY_RESULT_BACKEND.
    """
    return all(get_close_matches(word, known.split("_")) for word in name.split("_"))
