"""Additions to Celery's worker."""
