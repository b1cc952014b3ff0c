"""Celery with the two settings that its documentation names for tasks that must not be lost."""

import os

from celery import Celery
from record import run

app = Celery("bare_celery_tasks", broker=os.environ["BROKER"])
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True


@app.task(ignore_result=True)
def work(number: int, seconds: float) -> None:
    run(number, seconds)


def send(number: int, seconds: float) -> None:
    work.delay(number, seconds)
