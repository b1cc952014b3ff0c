"""The people who sign in."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """The project's own user model: fields can be added to it at any time."""
