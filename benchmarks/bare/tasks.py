"""Celery as it comes, with what its first steps teach: one file, and no setting but the URLs."""

import os

from celery import Celery

app = Celery("bare", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])


@app.task
def ping() -> str:
    return "pong"
