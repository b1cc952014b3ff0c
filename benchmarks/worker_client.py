"""The client in benchmarks/worker.py: sends a task that does nothing, and prints figures as JSON.

Run in the application's directory: worker_client.py MODULE publish|latency COUNT
"""

import json
import os
import sys
import time
from importlib import import_module
from typing import Any


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


def main() -> None:
    module, what, count = sys.argv[1:]
    sys.path[0] = os.getcwd()  # noqa: PTH109 - a string
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()
    task = import_module(module).ping
    task.delay()  # connects, and imports what is imported late
    measure = {"publish": publish, "latency": latency}[what]
    print(json.dumps(measure(task, int(count))))


if __name__ == "__main__":
    main()
