"""Tasks that `manage.py doctor` and the page send to check the pipeline."""

from celery import shared_task


@shared_task
def ping() -> str:
    return "pong"


@shared_task
def echo(message: str) -> str:
    return f"Processed: {message}"
