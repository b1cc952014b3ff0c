"""The client of worker.py and view.py: sends a task that does nothing, and prints JSON.

Run in the application's directory: worker_client.py MODULE publish|latency|view COUNT
"""

import json
import os
import sys
import time
from importlib import import_module
from typing import Any
from uuid import uuid4


def publish(task: Any, count: int) -> dict[str, Any]:
    """Send so many tasks in a loop; times in seconds, `began` by the clock that all share."""
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(count):
        task.delay()
    used = time.process_time() - cpu
    return {"began": began, "seconds": time.monotonic() - began, "cpu": used}


def latency(task: Any, count: int) -> dict[str, Any]:
    """Seconds from `delay()` to the result, for so many tasks, one at a time."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        task.delay().get(timeout=60)
        times.append(time.perf_counter() - began)
    return {"times": times}


def view(task: Any, count: int) -> dict[str, Any]:
    """Seconds that a view waits to send a task: alone, and in a transaction that saves a row."""
    from django.contrib.auth.models import Group
    from django.db import transaction

    def send() -> None:
        task.delay()

    def save_and_send() -> None:
        with transaction.atomic():
            Group.objects.create(name=str(uuid4()))
            task.delay_on_commit()

    times: dict[str, list[float]] = {"send": [], "save and send": []}
    for _ in range(count):
        for name, body in (("send", send), ("save and send", save_and_send)):
            began = time.perf_counter()
            body()
            times[name].append(time.perf_counter() - began)
    return {name: seconds[count // 10 :] for name, seconds in times.items()}  # the rest is warm


def main() -> None:
    module, what, count = sys.argv[1:]
    sys.path[0] = os.getcwd()  # noqa: PTH109 - a string
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()
    task = import_module(module).ping
    task.delay()  # connects, and imports what is imported late
    measure = {"publish": publish, "latency": latency, "view": view}[what]
    print(json.dumps(measure(task, int(count))))


if __name__ == "__main__":
    main()
