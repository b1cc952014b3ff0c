"""What a failed task needs to run again: its arguments, and the options of its message."""

from typing import Any

from celery import current_app
from kombu.utils.json import dumps

from apps.pipeline.broker.queues import HIDDEN, hides_arguments

# What follows the task when it runs again: the rest of its chain, and the tasks that get its result
# or its error. The group or chord to which it belonged does not wait for it again.
FOLLOWERS = {"chain": "chain", "callbacks": "link", "errbacks": "link_error"}


class NotKeptError(Exception):
    """The message is not kept. The text says why."""


def message(name: str, args: Any, kwargs: Any, request: Any) -> str:
    """The arguments and options as JSON. `request` is a Celery Context or a dictionary like it.

    Raises NotKeptError if the arguments are hidden, or are not JSON.
    """
    fields = request if isinstance(request, dict) else vars(request)
    if fields.get(HIDDEN) or hides_arguments(current_app, name):
        raise NotKeptError("The task hides its arguments: send it from your code.")
    options = {option: fields[key] for key, option in FOLLOWERS.items() if fields.get(key)}
    if any(map(_hides, _signatures([*options.values()]))):
        raise NotKeptError("A later task or callback hides its arguments: send all from your code.")
    hard, soft = fields.get("timelimit") or (None, None)
    priority = (fields.get("delivery_info") or {}).get("priority")
    more = {"time_limit": hard, "soft_time_limit": soft, "priority": priority}
    options |= {option: value for option, value in more.items() if value}
    try:
        return dumps({"args": [*(args or ())], "kwargs": {**(kwargs or {})}, "options": options})
    except (TypeError, ValueError) as error:
        raise NotKeptError("Its arguments are not JSON: send it from your code.") from error


def _signatures(value: Any) -> list[dict[str, Any]]:
    """The signatures in a value, also in those of a chain, a group or a chord."""
    if isinstance(value, dict):
        own = [value] if "task" in value else []
        return own + _signatures([*value.values()])
    if isinstance(value, list | tuple):
        return [found for each in value for found in _signatures(each)]
    return []


def _hides(signature: dict[str, Any]) -> bool:
    options = signature.get("options") or {}
    given = options.get("argsrepr") or options.get("kwargsrepr")
    return bool(given) or hides_arguments(current_app, signature["task"])
