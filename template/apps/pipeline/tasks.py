"""The tasks that `manage.py doctor` and the landing page send, to see the whole way."""

from celery import shared_task


@shared_task
def ping() -> str:
    return "pong"


@shared_task
def echo(message: str) -> str:
    return f"Processed: {message}"
