"""Selectors: functions that read users."""

from datetime import datetime

from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce

from apps.users.models import User


def inactive_users(*, since: datetime) -> QuerySet[User]:
    """Active accounts that have not signed in since then, except staff and superusers.

    For accounts that never signed in, the date they joined counts.
    """
    return User.objects.annotate(seen=Coalesce(F("last_login"), F("date_joined"))).filter(
        is_active=True, is_staff=False, is_superuser=False, seen__lt=since
    )
