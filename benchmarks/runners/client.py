"""Sends tasks in a loop, and prints how long it took as JSON: client.py MODULE COUNT SECONDS."""

import json
import os
import sys
import time
from importlib import import_module


def main() -> None:
    module, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sys.path[:0] = [os.getcwd()]  # noqa: PTH109 - a string
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()
    send = import_module(module).send
    send(0, seconds)  # connects, and imports what is imported late
    began, cpu = time.monotonic(), time.process_time()
    for number in range(1, count):
        send(number, seconds)
    used, took = time.process_time() - cpu, time.monotonic() - began
    print(json.dumps({"seconds": took, "cpu": used, "ended": time.time()}))


if __name__ == "__main__":
    main()
