"""Settings, URLs and the Celery application of the project."""

import django_stubs_ext

from config.celery import app as celery_app

# Makes `ModelAdmin[Product]` and the other generic classes of django-stubs work at run time.
# Without this call they raise TypeError. Seen in Django 5.2.19 (not reported yet).
# Delete the call and django-stubs-ext once Django's classes take parameters.
django_stubs_ext.monkeypatch()

__all__ = ["celery_app"]
