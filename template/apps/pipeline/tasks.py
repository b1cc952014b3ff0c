"""The task that `manage.py doctor` sends to see the whole way there and back."""

from celery import shared_task


@shared_task
def ping() -> str:
    return "pong"
