"""Measures how much Redis memory a waiting task needs, by the size of its argument.

Needs a Redis at its usual port on loopback; uses a queue of its own there and deletes it.
Run it from a clone: uv run benchmarks/task_memory.py
"""

import uuid

import redis
from celery import Celery

URL = "redis://127.0.0.1:6379/0"
TASKS = 1000


def bytes_waiting(size: int) -> float:
    """Bytes for a task whose argument is a text of so many characters, of TASKS that wait."""
    queue = f"benchmark-{uuid.uuid4().hex}"
    app = Celery("benchmark", broker=URL)
    client = redis.Redis.from_url(URL)
    try:
        for _ in range(TASKS):
            app.send_task("apps.tasks.tasks.example_task", args=["x" * size], queue=queue)
        used = client.memory_usage(queue, samples=0)
    finally:
        client.delete(queue, *client.keys(f"_kombu.binding*.{queue}"))
    return float(used or 0) / TASKS


def main() -> None:
    for size in (10, 1_000, 10_000):
        print(f"argument of {size:6,} characters: {bytes_waiting(size):7,.0f} bytes")


if __name__ == "__main__":
    main()
