"""The task, for any Celery application."""

from celery import shared_task
from record import run


@shared_task(ignore_result=True)
def work(number: int, seconds: float) -> None:
    run(number, seconds)


def send(number: int, seconds: float) -> None:
    work.delay(number, seconds)
