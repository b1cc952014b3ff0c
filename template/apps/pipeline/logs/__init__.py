"""Adds ids to each line of the log, and removes arguments and results from Celery's lines."""
