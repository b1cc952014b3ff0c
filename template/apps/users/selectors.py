"""What can be asked about users."""

from datetime import datetime

from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce

from apps.users.models import User


def inactive_users(*, since: datetime) -> QuerySet[User]:
    """Active accounts without a sign-in since then; the staff is never among them.

    An account that never signed in counts from the day it joined.
    """
    return User.objects.annotate(seen=Coalesce(F("last_login"), F("date_joined"))).filter(
        is_active=True, is_staff=False, is_superuser=False, seen__lt=since
    )
