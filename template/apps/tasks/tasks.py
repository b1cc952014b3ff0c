"""Tasks of the project: thin wrappers that call services."""

from celery import shared_task

from apps.users.services import cleanup_inactive_users


@shared_task
def cleanup_inactive_users_task() -> int:
    """Deactivate unused accounts every 30 minutes, and return how many."""
    return cleanup_inactive_users()


@shared_task
def example_task(message: str) -> str:
    """The task of the page's button. LANDING_TASK in the settings names it."""
    return f"Processed: {message}"
