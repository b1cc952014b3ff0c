"""Settings of the processes that are broken: local ones, and times that a test can wait for."""

from config.settings import celery
from config.settings.env import env
from config.settings.local import *  # noqa: F403
from config.settings.local import CELERY_BROKER_TRANSPORT_OPTIONS, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, *env.list("FAULTS_APPS")]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.faults.urls"

CELERY_TASK_DEFAULT_QUEUE = env.str("FAULTS_QUEUE")
CELERY_BEAT_SCHEDULE = {"tick": {"task": "tests.faults.tasks.tick", "schedule": 1.0}}

# What production has, unless a test is in a hurry.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = (
    env.int("FAULTS_GRACE", 0) or celery.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT
)

if visibility := env.int("FAULTS_VISIBILITY", 0):
    CELERY_TASK_SOFT_TIME_LIMIT = visibility - 2
    CELERY_TASK_TIME_LIMIT = visibility - 1
    if "visibility_timeout" in CELERY_BROKER_TRANSPORT_OPTIONS:
        CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] = visibility
