"""Dramatiq with its defaults. Its broker returns the messages of a dead worker to the queue."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from record import run

dramatiq.set_broker(RedisBroker(url=os.environ["BROKER"]))


@dramatiq.actor
def work(number: int, seconds: float) -> None:
    run(number, seconds)


def send(number: int, seconds: float) -> None:
    work.send(number, seconds)
