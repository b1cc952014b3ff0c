"""Filters and a formatter, which the setting LOGGING uses."""

import logging
import time

from apps.pipeline.logs.ids import STARTED_AT, current_message, ids, queue_wait

# The values that stay in Celery's lines. Arguments, results and tracebacks are left out.
KEPT = ("id", "name", "exc", "description", "runtime")

# The end of the line that says that a task succeeded, and its replacement.
RESULT = ("%(runtime)ss: %(return_value)s", "%(runtime).3fs")

# The beginnings of the lines that the main process of a worker writes last about a task.
LAST = ("Hard time limit", "Task %s[%s] retry", "Task handler raised error")

# The beginnings of the lines that contain a whole message.
DISCARDED = (
    "Can't decode message body",
    "Received and deleted unknown message",
    "Received invalid task message",
)


class Ids(logging.Filter):
    """Add the ids of the current web request or task to a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in ids().items():
            vars(record).setdefault(name, value)
        return True


class WithoutData(logging.Filter):
    """Leave arguments and results out of Celery's lines, and add times to the last line of a task.

    `queue_wait` is the time from when the task was sent, or from its ETA, until it was started.
    `run_time` includes the time in which its result was stored. Both are in seconds.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if (data := vars(record).pop("data", None)) is not None:
            record.args = {name: data[name] for name in KEPT if name in data}
            record.msg = text.replace(*RESULT)
        elif text.startswith(DISCARDED):
            record.msg = "Removed an invalid message from its queue"
            record.args = None
        if record.name == "celery.app.trace" or text.startswith(LAST):
            add_times(record, (data or {}).get("runtime"))
        return True


def add_times(record: logging.LogRecord, run_time: float | None) -> None:
    headers = current_message()
    started_at = headers.get(STARTED_AT)
    if started_at is None or hasattr(record, "run_time"):
        return  # no process has started it, or (in tests) LOGGING has this filter twice
    shown = []
    if run_time is None:
        run_time = max(0, time.time() - started_at)
        shown.append(f"run time {run_time:.3f}s")
    vars(record)["run_time"] = round(run_time, 6)
    if (wait := queue_wait(headers, started_at)) is not None:
        shown.append(f"queue wait {wait:.3f}s")
        vars(record)["queue_wait"] = round(wait, 6)
    record.msg = f"{record.msg} ({', '.join(shown)})" if shown else record.msg


# How many characters of a request's id are enough on a developer's machine.
SHORT = 8


class LineFormatter(logging.Formatter):
    """Format lines for people: the ids are at the end, and the id of the request is shortened."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        found = vars(record)
        names = ("request_id", "task_id", "parent_id", "root_id", "schedule")
        given = {name.removesuffix("_id"): str(found[name]) for name in names if found.get(name)}
        if "request" in given:
            given["request"] = given["request"][:SHORT]
        if given.get("root") == given.get("task"):
            given.pop("root", None)
        if given.get("task", "") in record.message:
            given.pop("task", None)
        end = " ".join(f"{shown}={value}" for shown, value in given.items())
        line = super().formatMessage(record)
        return f"{line}  [{end}]" if end else line
