"""Settings for the Beat that a test starts: local ones, with a schedule that is due at once."""

from config.settings.local import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {"tick": {"task": "apps.pipeline.tasks.ping", "schedule": 1.0}}
