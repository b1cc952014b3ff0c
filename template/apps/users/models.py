"""The user model."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """The project's own user model, so that you can add fields later."""
