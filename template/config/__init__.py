"""The wiring of the project: settings, URLs and the Celery application."""

import django_stubs_ext

from config.celery import app as celery_app

# `ModelAdmin[Product]` and the other generic classes of django-stubs mean something at run time too.
django_stubs_ext.monkeypatch()

__all__ = ["celery_app"]
