"""Huey with its defaults. It has no setting that returns the task of a dead worker to the queue."""

import os

from huey import RedisHuey
from record import run

huey = RedisHuey("bench", url=os.environ["BROKER"], results=False)


@huey.task()
def work(number: int, seconds: float) -> None:
    run(number, seconds)


def send(number: int, seconds: float) -> None:
    work(number, seconds)
