"""Schedules in the database, edited in the admin; `sync_schedules` puts the declared ones there."""

from django_celery_beat import schedulers

from apps.pipeline.beat import Heartbeat


class DatabaseScheduler(Heartbeat, schedulers.DatabaseScheduler):
    """django-celery-beat's scheduler."""
