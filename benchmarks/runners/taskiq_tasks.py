"""Taskiq with Redis streams, which acknowledge. A dead worker's tasks are idle for 30 s first."""

import asyncio
import os

from record import run
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(
    os.environ["BROKER"],
    consumer_id="0",  # also read what was sent before the first worker started
    idle_timeout=30_000,  # milliseconds; 10 minutes if not set
    unacknowledged_lock_timeout=30,
)
loop = asyncio.new_event_loop()


@broker.task
def work(number: int, seconds: float) -> None:
    run(number, seconds)


def send(number: int, seconds: float) -> None:
    loop.run_until_complete(work.kiq(number, seconds))
