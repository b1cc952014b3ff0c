"""Settings for worker and Beat of a test: local ones, a second queue, a schedule due at once."""

from kombu import Queue

from config.settings.local import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {"tick": {"task": "apps.pipeline.tasks.ping", "schedule": 1.0}}
CELERY_TASK_QUEUES = [Queue("mail")]
