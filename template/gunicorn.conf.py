"""Gunicorn reads this file because of its name. Its log gets the format of Django's log."""

import os

from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")  # as config.wsgi does
logconfig_dict = settings.LOGGING | {"loggers": {"gunicorn.error": {"propagate": True}}}
