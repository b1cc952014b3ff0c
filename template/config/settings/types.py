"""Settings for the type checker: every app whose models the code names, installed or not."""

from config.settings.test import *  # noqa: F403
from config.settings.test import INSTALLED_APPS

INSTALLED_APPS = [*dict.fromkeys([*INSTALLED_APPS, "django_celery_beat"])]
