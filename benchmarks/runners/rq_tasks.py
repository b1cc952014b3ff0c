"""RQ with `Retry`: without it, the job of a dead worker is only marked as failed."""

import os

import redis
from record import run
from rq import Queue, Retry

queue = Queue(connection=redis.Redis.from_url(os.environ["BROKER"]))


def send(number: int, seconds: float) -> None:
    queue.enqueue(run, number, seconds, retry=Retry(max=3), result_ttl=0)
