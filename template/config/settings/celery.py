"""Celery's settings, each with what goes wrong without it.

Celery reads the names that begin with `CELERY_`. Times are in seconds.
"""

import os
import ssl
from typing import Any

from kombu import Queue

from config.settings.env import BASE_DIR, database, env, names, pairs

# Projects that share a Redis server or an SQS account need different prefixes.
PREFIX = env.str("KEY_PREFIX", "")

# Broker and result backend. Set the whole URL, with its password, in the environment or in .env.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL")
BROKER_SCHEME = CELERY_BROKER_URL.partition("://")[0]
SPEAKS_AMQP = BROKER_SCHEME in ("amqp", "amqps")
SPEAKS_REDIS = BROKER_SCHEME in ("redis", "rediss", "redis+socket", "sentinel")

# `redis` means the broker's Redis, `rpc` reply queues on the AMQP broker, and `none` no results.
# Celery itself knows `django-db` and URLs.
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND")
CELERY_RESULT_BACKEND = {"redis": CELERY_BROKER_URL, "rpc": "rpc://", "none": "disabled://"}.get(
    CELERY_RESULT_BACKEND, CELERY_RESULT_BACKEND
)

# Without this, rediss:// does not verify the server's certificate, and amqps:// not its name.
# The first is seen in kombu 5.7.0 (not reported yet). Delete its branch once fixed.
# The second is seen in py-amqp 5.4.2 (py-amqp #63). Delete its branch once fixed.
CELERY_BROKER_USE_SSL: dict[str, Any] | None = None
CELERY_REDIS_BACKEND_USE_SSL: dict[str, Any] | None = None
if BROKER_SCHEME == "rediss":
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
elif BROKER_SCHEME == "amqps":
    CELERY_BROKER_USE_SSL = {"server_hostname": None}  # None: the host of the URL
if CELERY_RESULT_BACKEND.startswith("rediss:"):
    CELERY_REDIS_BACKEND_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}

# The queues besides "celery", and the tasks that go to them. docs/scaling.md explains both.
CELERY_TASK_QUEUES: Any = [Queue(name) for name in names("CELERY_TASK_QUEUES")]
CELERY_TASK_ROUTES: Any = pairs("CELERY_TASK_ROUTES", "apps.shop.tasks.*=mail")

# Time limits. A task that hangs would block a worker process for ever. It gets
# SoftTimeLimitExceeded after 25 minutes, and its process is killed after 30.
CELERY_TASK_SOFT_TIME_LIMIT = 25 * 60
CELERY_TASK_TIME_LIMIT = 30 * 60

# Acknowledgement and shutdown

# A message is acknowledged after its task has run. Otherwise a killed worker loses its tasks.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True

# A task whose process was killed is retried, at most `max_retries` (3) times. Otherwise a task that
# kills its process each time would run for ever.
CELERY_TASK_RETRY_ON_WORKER_LOST = True

# Keeps messages for tasks that this worker does not know. Celery's own consumer discards them.
CELERY_WORKER_CONSUMER = "apps.pipeline.worker.consumer:Consumer"

# A worker that stops has this time to finish its tasks, and then returns the others to their
# queues. Its supervisor has to wait some seconds longer before it kills the worker.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
STOP_GRACE = env.int("STOP_GRACE", 45)  # as in the containers; a system check compares the two

# A worker takes no more messages than it has processes. Otherwise tasks wait behind a long task.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# A worker waits for its broker for ever, when it starts and after a lost connection.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = SPEAKS_REDIS  # if it is read-only after a failover

# Tasks continue after a lost connection. Otherwise they would run twice.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

# When the broker does not answer

# A web request that sends a task fails within three seconds, with one retry. By default kombu waits
# for a frozen Redis for ever. Seen in kombu 5.7.0 (celery #4296). Keep the times once fixed.
# Workers retry for longer: see apps/pipeline/worker/timeouts.py.
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.1}
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {**CELERY_TASK_PUBLISH_RETRY_POLICY}
CELERY_REDIS_SOCKET_TIMEOUT = CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 0.8

# The name by which the Sentinels know the Redis. Without these timeouts redis-py waits for about a
# minute for a Sentinel that does not answer, before it asks the next. Seen in redis-py 8.1.0 (not
# reported yet). Delete `retry` once fixed.
SENTINEL: dict[str, Any] = {
    "master_name": env.str("SENTINEL_MASTER", "mymaster"),
    "sentinel_kwargs": {"retry": None, "socket_timeout": 0.2, "socket_connect_timeout": 0.2},
}
if SPEAKS_REDIS:
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"socket_timeout": 0.8, "socket_connect_timeout": 0.8}
    CELERY_BROKER_TRANSPORT_OPTIONS |= SENTINEL
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS: dict[str, Any] = {
    "global_keyprefix": PREFIX,
    "retry_policy": {"timeout": 1, **CELERY_TASK_PUBLISH_RETRY_POLICY},
    **SENTINEL,
}

# By default the SQS client waits a minute for an answer, and tries three times. A receive request
# of a worker takes up to `wait_time_seconds`. A worker that stops waits for its answer, because
# a message in it would stay hidden until the visibility timeout. `polling_interval` is the pause
# of a worker whose processes are all busy: with kombu's default of a second, each runs one
# short task a second.
if BROKER_SCHEME == "sqs":
    times = {"connect_timeout": 0.8, "read_timeout": 0.8, "retries": {"total_max_attempts": 1}}
    CELERY_BROKER_TRANSPORT_OPTIONS["client-config"] = times
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"wait_time_seconds": 3, "polling_interval": 0.1}

if SPEAKS_AMQP:
    # Without confirmation a message can be lost on its way to the broker. A web process waits two
    # seconds for it, because a frozen broker sends none.
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"confirm_publish": True, "answer_timeout": 2}
    # Quorum queues are written to disk on most nodes of a cluster; Celery's classic queues are not.
    # Topic exchanges let RabbitMQ keep delayed tasks, which would otherwise wait in a worker.
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
    CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum"
    CELERY_TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE = "topic"
# The server's consumer_timeout, which limits every task. docs/brokers.md explains how to raise it.
RABBITMQ_CONSUMER_TIMEOUT = env.int("RABBITMQ_CONSUMER_TIMEOUT", 30 * 60)

# Messages of a dead worker (Redis and SQS; AMQP brokers notice closed connections)

# For programs without a lease (broker/redis/lease.py), for example workers of an earlier release.
VISIBILITY_TIMEOUT = 60 * 60
if not SPEAKS_AMQP:  # Redis reads the first prefix, SQS the second
    CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] = VISIBILITY_TIMEOUT
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"global_keyprefix": PREFIX, "queue_name_prefix": PREFIX}
if SPEAKS_REDIS:  # look for ended leases every 2 s, and for ended visibility timeouts every 10 s
    CELERY_BROKER_TRANSPORT_OPTIONS |= {
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 5,
    }

# Beat

# Where worker and Beat write their heartbeats, for health checks on the same machine.
RUNTIME_DIR = env.path("RUNTIME_DIR", BASE_DIR / "var")

CELERY_BEAT_SCHEDULER = env.str("CELERY_BEAT_SCHEDULER")
CELERY_BEAT_SCHEDULER = {
    "database": "apps.pipeline.beat.database:DatabaseScheduler",
    "redbeat": "apps.pipeline.beat.redbeat:RedBeatScheduler",
    "file": "apps.pipeline.beat.file:PersistentScheduler",
}.get(CELERY_BEAT_SCHEDULER, CELERY_BEAT_SCHEDULER)

# Beat reads its schedule at least this often, so that an edit in the admin takes effect soon.
CELERY_BEAT_MAX_LOOP_INTERVAL = 5

# Each run is saved at once. Otherwise a Beat that takes over sends it again.
CELERY_BEAT_SYNC_EVERY = 1

# redbeat keeps its schedule in the broker's Redis.
CELERY_REDBEAT_REDIS_URL = CELERY_BROKER_URL
CELERY_REDBEAT_KEY_PREFIX = f"{PREFIX}redbeat:"

# The lock of Beat needs its own database session, and not a pooler that shares sessions.
if env.str("BEAT_LOCK_DATABASE_URL", ""):
    BEAT_LOCK_DATABASE = database("BEAT_LOCK_DATABASE_URL")

# Where the file scheduler stores when each schedule ran last.
CELERY_BEAT_SCHEDULE_FILENAME = str(RUNTIME_DIR / "celerybeat-schedule")

# The time zone of crontabs. Celery's default is UTC.
CELERY_TIMEZONE = env.str("TIME_ZONE")

# Results. They are deleted after a day.
CELERY_RESULT_EXPIRES = 24 * 60 * 60

# Recording the start of a task can lose the task: when the result backend does not answer, Celery
# treats the error as an error of the task, and acknowledges the message. Seen in celery 5.7.0 (not
# reported yet). Delete this setting once fixed.
CELERY_TASK_TRACK_STARTED = False

# In the database a result has the name and arguments of its task, for the admin.
CELERY_RESULT_EXTENDED = CELERY_RESULT_BACKEND.startswith("django-")

# With pickle, anyone who can send to the broker can run code in the worker.
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

# Flower needs task events. Each is a message, so they are off by default.
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = env.bool("SEND_TASK_EVENTS", False)

# Logs. Celery would replace the handlers of the root logger, which LOGGING configures.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# The environment. Celery reads these variables before its settings, and does not know the short
# names. Seen in celery 5.7.0 (celery #4284, #9089). Delete this loop once the settings win.
for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_BEAT_SCHEDULER"):
    if name in os.environ:
        os.environ[name] = globals()[name]
