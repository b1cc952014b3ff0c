"""Checks FAILED_TASK_NOTIFY."""

from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string


def notify() -> Iterator[CheckMessage]:
    path = settings.FAILED_TASK_NOTIFY
    if not path:
        return
    try:
        is_function = callable(import_string(path))
    except (ImportError, AttributeError):  # or it is not a text
        is_function = False
    if not is_function:
        text = f"FAILED_TASK_NOTIFY is {path!r}, which is not a function that can be imported."
        hint = "Write its path, for example apps.shop.services.tell."
        yield Error(text, hint, id="pipeline.E018")
