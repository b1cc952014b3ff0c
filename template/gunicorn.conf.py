"""Gunicorn reads this file because of its name. Its log gets the format of Django's log."""

from django.conf import settings

logconfig_dict = settings.LOGGING | {"loggers": {"gunicorn.error": {"propagate": True}}}
