"""Caches the parsed fields of crontabs, because many rows have equal crontabs."""

from functools import lru_cache
from typing import Any

from celery.schedules import crontab


def parse_once() -> None:
    """Parse each text in a field of a crontab once. Equal fields then share one set.

    django-celery-beat parses the crontab of each row twice. Seen in django-celery-beat 2.9.0 (not
    reported yet). Delete this module once fixed.
    """
    fields: Any = crontab  # Celery's types lack the method
    parse = fields._expand_cronspec
    kept = lru_cache(maxsize=5000)(parse)

    def expand(field: Any, *limits: int) -> set[int]:
        return (kept if isinstance(field, str) else parse)(field, *limits)  # type: ignore[no-any-return]

    fields._expand_cronspec = staticmethod(expand)
