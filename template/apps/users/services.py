"""Services: functions that change users."""

from datetime import timedelta

from django.utils import timezone

from apps.users.selectors import inactive_users

INACTIVE_AFTER = timedelta(days=365)


def cleanup_inactive_users(*, inactive_after: timedelta = INACTIVE_AFTER) -> int:
    """Deactivate the accounts that have not signed in for that time, and return how many.

    No account is deleted. An administrator can activate an account again.
    """
    return inactive_users(since=timezone.now() - inactive_after).update(is_active=False)
