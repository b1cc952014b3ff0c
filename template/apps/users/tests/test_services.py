from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.users.models import User
from apps.users.services import cleanup_inactive_users

LONG_AGO = timezone.now() - timedelta(days=400)


def make(name: str, **fields: Any) -> User:
    return User.objects.create(**{User.USERNAME_FIELD: name, "date_joined": LONG_AGO} | fields)


@pytest.mark.django_db
class TestCleanupInactiveUsers:
    def test_deactivates_accounts_without_a_recent_sign_in(self) -> None:
        never, stopped = make("never"), make("stopped", last_login=LONG_AGO)
        assert cleanup_inactive_users() == 2
        never.refresh_from_db()
        stopped.refresh_from_db()
        assert not never.is_active
        assert not stopped.is_active

    def test_keeps_accounts_that_signed_in_recently_new_accounts_and_staff(self) -> None:
        make("regular", last_login=timezone.now())
        make("new", date_joined=timezone.now())
        make("staff", is_staff=True)
        make("root", is_superuser=True)
        assert cleanup_inactive_users() == 0
        assert User.objects.filter(is_active=True).count() == 4

    def test_counts_an_account_once(self) -> None:
        make("gone")
        assert cleanup_inactive_users() == 1
        assert cleanup_inactive_users() == 0

    def test_takes_another_period(self) -> None:
        make("idle", last_login=timezone.now() - timedelta(days=8))
        assert cleanup_inactive_users(inactive_after=timedelta(days=7)) == 1
