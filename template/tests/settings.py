"""Settings for the worker and Beat of a test, with a second queue and a schedule of one second."""

from kombu import Queue

from config.settings import local
from config.settings.local import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {"tick": {"task": "apps.pipeline.tasks.ping", "schedule": 1.0}}
own = local.CELERY_TASK_QUEUES  # the tasks and schedules of the project name them
CELERY_TASK_QUEUES = {**own, "mail": {}} if isinstance(own, dict) else [*own, Queue("mail")]
