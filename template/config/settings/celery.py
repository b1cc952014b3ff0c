"""Celery's settings, each with what goes wrong without it.

Celery reads the names that begin with `CELERY_`. Times are in seconds.
"""

import os
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from config.settings.env import BASE_DIR, database, env

# Projects that share a Redis, or an account of SQS, do not meet where each has a prefix of its own.
PREFIX = env.str("KEY_PREFIX", "")

# Where tasks travel

# The whole URL, its password included, may be given in the environment or in .env.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL")
BROKER_SCHEME = CELERY_BROKER_URL.partition("://")[0]
SPEAKS_AMQP = BROKER_SCHEME in ("amqp", "amqps")
SPEAKS_REDIS = BROKER_SCHEME in ("redis", "rediss", "redis+socket", "sentinel")

# `redis` stands for the broker's own Redis, `rpc` for reply queues on the AMQP broker, `none` for
# no results at all; `django-db` and URLs are Celery's own words.
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND")
CELERY_RESULT_BACKEND = {
    "redis": CELERY_BROKER_URL,
    "rpc": "rpc://",
    "none": "disabled://",
}.get(CELERY_RESULT_BACKEND, CELERY_RESULT_BACKEND)

# Without this the connection is encrypted to whoever answers: rediss:// looks at no certificate,
# amqps:// at no name in it.
CELERY_BROKER_USE_SSL: dict[str, Any] | None = None
CELERY_REDIS_BACKEND_USE_SSL: dict[str, Any] | None = None
if BROKER_SCHEME == "rediss":
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
elif BROKER_SCHEME == "amqps":
    CELERY_BROKER_USE_SSL = {"server_hostname": None}  # None: the URL's host has to be the one
if CELERY_RESULT_BACKEND.startswith("rediss:"):
    CELERY_REDIS_BACKEND_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}

# The queues beside "celery", which workers take from, and what waits in them: see `project`.
CELERY_TASK_QUEUES: Any = None
CELERY_TASK_ROUTES: Any = None

# How long a task may take

# A task that hangs would hold its worker process for ever: it is told after 25 minutes
# (SoftTimeLimitExceeded) and killed after 30.
CELERY_TASK_SOFT_TIME_LIMIT = 25 * 60
CELERY_TASK_TIME_LIMIT = 30 * 60

# Nothing lost

# A message is acknowledged when its task is done, not when it is taken: a killed worker loses none.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True

# A task whose process was killed is run again by a retry, which counts: one that kills its process
# every time is given up after its `max_retries` (3), and does not go round for ever.
CELERY_TASK_RETRY_ON_WORKER_LOST = True

# A message for a task that this worker does not know yet is kept, not discarded.
CELERY_WORKER_CONSUMER = "apps.pipeline.worker:Consumer"

# A worker told to stop finishes what it can in this time and returns the rest to the queue. The
# stop grace of whatever runs it has to be longer, by some seconds.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
STOP_GRACE = env.int("STOP_GRACE", 45)  # what the containers give; checked against the line above

# A worker takes no more messages than it runs: a long task keeps none waiting behind it.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# A worker that starts before its broker waits for it, and one that loses it comes back, for ever.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None

# After a lost connection tasks that still run are left to end; they would be run twice otherwise.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

# When the broker is away

# A web request that sends a task fails within three seconds, in words, instead of hanging until
# the broker is back: one second to connect, one to answer, one more try. Workers are more patient.
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.1}
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {**CELERY_TASK_PUBLISH_RETRY_POLICY}
CELERY_REDIS_SOCKET_TIMEOUT = CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 0.8

# Which Redis the Sentinels are asked for. One that is gone or frozen is passed over at once: left
# to itself, redis-py tries it for a minute and longer before it asks the next.
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

# Left to itself, the client of SQS waits for an answer for a minute, and asks five times. A worker
# asks SQS for messages, which answers after `wait_time_seconds` at the latest: one that is told to
# stop waits for this, for what nobody hears would be hidden until the visibility timeout. With its
# hands full it asks again after `polling_interval`: with kombu's own, a second, each of its
# processes ran one short task a second, and now nine.
if BROKER_SCHEME == "sqs":
    times = {"connect_timeout": 0.8, "read_timeout": 0.8, "retries": {"total_max_attempts": 1}}
    CELERY_BROKER_TRANSPORT_OPTIONS["client-config"] = times
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"wait_time_seconds": 3, "polling_interval": 0.1}

if SPEAKS_AMQP:
    # An AMQP broker says that it has a message; without this it is sent in good hope. One that is
    # frozen says nothing, and is asked no more after two seconds.
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"confirm_publish": True, "answer_timeout": 2}
    # RabbitMQ's queues are quorum queues: kept on disk, and on most nodes of a cluster. Topic
    # exchanges let it keep what is to run later, instead of a worker. Celery's own are neither.
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
    CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum"
    CELERY_TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE = "topic"

# When a message counts as lost (Redis and SQS; AMQP brokers know when a worker is gone)

# A message that is not acknowledged for this long goes to another worker. It must exceed the
# longest task and the longest countdown, or a task that is still running starts again.
VISIBILITY_TIMEOUT = 60 * 60
if not SPEAKS_AMQP:
    CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] = VISIBILITY_TIMEOUT
    # Redis reads the one, SQS the other.
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"global_keyprefix": PREFIX, "queue_name_prefix": PREFIX}
# Redis looks for such messages at every turn: in its own rhythm it takes up to 100 s longer.
if SPEAKS_REDIS:
    CELERY_BROKER_TRANSPORT_OPTIONS["unacked_restore_throttle"] = 1

# Beat

# What worker and Beat leave behind for health checks: heartbeats. Private to one machine.
RUNTIME_DIR = env.path("RUNTIME_DIR", BASE_DIR / "var")

CELERY_BEAT_SCHEDULER = env.str("CELERY_BEAT_SCHEDULER")
CELERY_BEAT_SCHEDULER = {
    "database": "apps.pipeline.beat.database:DatabaseScheduler",
    "redbeat": "apps.pipeline.beat.redbeat:RedBeatScheduler",
    "file": "apps.pipeline.beat.file:PersistentScheduler",
}.get(CELERY_BEAT_SCHEDULER, CELERY_BEAT_SCHEDULER)

# Beat looks at its schedule at least this often: an edit in the admin takes no longer to count.
CELERY_BEAT_MAX_LOOP_INTERVAL = 5

# When a run was sent is written down at once: a Beat that takes over would send it again.
CELERY_BEAT_SYNC_EVERY = 1

# redbeat keeps its schedule beside the messages, and has its own words for a socket and Sentinels.
CELERY_REDBEAT_KEY_PREFIX = f"{PREFIX}redbeat:"
CELERY_REDBEAT_REDIS_URL = CELERY_BROKER_URL.replace("redis+socket:", "unix:", 1)
CELERY_REDBEAT_REDIS_URL = CELERY_REDBEAT_REDIS_URL.replace("virtual_host=", "db=")
CELERY_REDBEAT_REDIS_OPTIONS: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5}
if BROKER_SCHEME == "sentinel":
    sentinels = [urlsplit(address) for address in CELERY_BROKER_URL.split(";")]
    CELERY_REDBEAT_REDIS_URL = "redis-sentinel://"
    with suppress(ValueError):  # a port or a number that is none: a system check says so
        CELERY_REDBEAT_REDIS_OPTIONS |= {
            "sentinels": [(address.hostname, address.port or 26379) for address in sentinels],
            "service_name": SENTINEL["master_name"],
            "sentinel_kwargs": SENTINEL["sentinel_kwargs"],
            "db": int(sentinels[-1].path.strip("/") or 0),
            "username": next((unquote(a.username) for a in sentinels if a.username), None),
            "password": next((unquote(a.password) for a in sentinels if a.password), None),
        }

# Behind a pooler that shares sessions, the lock of Beat needs the database itself.
if env.str("BEAT_LOCK_DATABASE_URL", ""):
    BEAT_LOCK_DATABASE = database("BEAT_LOCK_DATABASE_URL")

# Where the file scheduler keeps what it ran last.
CELERY_BEAT_SCHEDULE_FILENAME = str(RUNTIME_DIR / "celerybeat-schedule")

# A crontab means the wall clock of the project, not UTC.
CELERY_TIMEZONE = env.str("TIME_ZONE")

# Results

# Results nobody fetched are dropped after a day.
CELERY_RESULT_EXPIRES = 24 * 60 * 60

# Saying that a task has started would lose it where the result store is away: Celery takes the
# error for the task's own, and acknowledges what never ran.
CELERY_TASK_TRACK_STARTED = False

# In the database a result keeps its task's name and arguments: the admin shows and repeats it.
CELERY_RESULT_EXTENDED = CELERY_RESULT_BACKEND.startswith("django-")

# Messages are JSON: pickle would let whoever reaches the broker run code in the worker.
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

# Flower and the Prometheus exporter see tasks through their events; others do without the traffic.
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = env.bool("SEND_TASK_EVENTS", False)

# Logs

# The root logger stays as LOGGING configures it, in the worker as in the web process.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# The environment

# Celery prefers these variables to its settings, and does not know the short names.
for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_BEAT_SCHEDULER"):
    if name in os.environ:
        os.environ[name] = globals()[name]
