"""Gunicorn finds this file by its name: its own log goes where the project's goes, in its form."""

from django.conf import settings

logconfig_dict = settings.LOGGING | {"loggers": {"gunicorn.error": {"propagate": True}}}
