"""Settings of the processes in these tests: local settings with shorter timeouts."""

import time

from kombu.transport import TRANSPORT_ALIASES

from config.settings import celery
from config.settings.env import env
from config.settings.local import *  # noqa: F403
from config.settings.local import CELERY_BROKER_TRANSPORT_OPTIONS, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, *env.list("FAULTS_APPS")]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.faults.urls"

CELERY_TASK_DEFAULT_QUEUE = env.str("FAULTS_QUEUE")
CELERY_BEAT_SCHEDULE = {"tick": {"task": "tests.faults.tasks.tick", "schedule": 1.0}}

# As in production, unless a test sets a shorter time.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = (
    env.int("FAULTS_GRACE", 0) or celery.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT
)

if env.bool("FAULTS_CELERY_TRANSPORT", default=False):
    TRANSPORT_ALIASES["redis"] = "kombu.transport.redis:Transport"

# Seconds that a sender waits for the broker. A busy machine can exceed the project's timeouts.
if timeout := env.int("FAULTS_TIMEOUT", 0):
    CELERY_BROKER_CONNECTION_TIMEOUT = timeout
    CELERY_REDIS_SOCKET_TIMEOUT = CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = timeout
    names = {"socket_timeout", "socket_connect_timeout", "answer_timeout"}
    for name in names & CELERY_BROKER_TRANSPORT_OPTIONS.keys():
        CELERY_BROKER_TRANSPORT_OPTIONS[name] = timeout

if visibility := env.int("FAULTS_VISIBILITY", 0):
    CELERY_TASK_SOFT_TIME_LIMIT = visibility - 2
    CELERY_TASK_TIME_LIMIT = visibility - 1
    if "visibility_timeout" in CELERY_BROKER_TRANSPORT_OPTIONS:
        CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] = visibility

if offset := env.float("FAULTS_CLOCK", 0):  # a process whose clock is off by so many seconds
    true_time = time.time
    time.time = lambda: true_time() + offset
