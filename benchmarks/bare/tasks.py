"""Celery with its defaults, as in its first steps: one file, and no setting except the URLs."""

import os

from celery import Celery

app = Celery("bare", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])


@app.task
def ping() -> str:
    return "pong"
