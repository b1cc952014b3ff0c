"""The project's tasks: thin wrappers that call services."""

from celery import shared_task

from apps.users.services import cleanup_inactive_users


@shared_task
def cleanup_inactive_users_task() -> int:
    """Every 30 minutes: deactivate accounts that nobody uses; return how many."""
    return cleanup_inactive_users()


@shared_task
def example_task(message: str) -> str:
    """What the landing page's button runs, until LANDING_TASK names a task of yours."""
    return f"Processed: {message}"
