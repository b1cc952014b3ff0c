"""The work of every task of this benchmark: sleep, and count the run in Redis."""

import os
import time

import redis

connection: "redis.Redis | None" = None


def run(number: int, seconds: float) -> None:
    """Take so many seconds, and count a run of this number in the hash `runs`."""
    global connection  # one for each process, opened after the fork
    if connection is None:
        connection = redis.Redis.from_url(os.environ["RUNS"])
    if seconds:
        time.sleep(seconds)
    connection.hincrby("runs", str(number), 1)
