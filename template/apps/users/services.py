"""What can be done to users."""

from datetime import timedelta

from django.utils import timezone

from apps.users.selectors import inactive_users

INACTIVE_AFTER = timedelta(days=365)


def cleanup_inactive_users(*, inactive_after: timedelta = INACTIVE_AFTER) -> int:
    """Deactivate the accounts that nobody signed in to for so long; return how many.

    Nothing is deleted: an administrator can activate an account again.
    """
    return inactive_users(since=timezone.now() - inactive_after).update(is_active=False)
