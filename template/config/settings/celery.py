"""Celery's settings, each with what goes wrong without it.

Celery reads the names that begin with `CELERY_`; times are in seconds unless a name says otherwise.
"""

from config.settings.env import BASE_DIR, env

# Where tasks travel

# The whole URL, its password included, may be given in the environment or in .env.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL")

# `redis` stands for the broker's own Redis, `rpc` for reply queues on the AMQP broker, `none` for
# no results at all; `django-db` and URLs are Celery's own words.
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND")
CELERY_RESULT_BACKEND = {
    "redis": CELERY_BROKER_URL,
    "rpc": "rpc://",
    "none": "disabled://",
}.get(CELERY_RESULT_BACKEND, CELERY_RESULT_BACKEND)

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

# redbeat keeps its schedule beside the messages.
CELERY_REDBEAT_REDIS_URL = CELERY_BROKER_URL

# Where the file scheduler keeps what it ran last.
CELERY_BEAT_SCHEDULE_FILENAME = str(RUNTIME_DIR / "celerybeat-schedule")

# A crontab means the wall clock of the project, not UTC.
CELERY_TIMEZONE = env.str("TIME_ZONE")

# How long a task may take

# A task that hangs would hold its worker process for ever: it is told after 25 minutes
# (SoftTimeLimitExceeded) and killed after 30.
CELERY_TASK_SOFT_TIME_LIMIT = 25 * 60
CELERY_TASK_TIME_LIMIT = 30 * 60

# Nothing lost

# A message is acknowledged when its task is done, not when it is taken: a killed worker loses none.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True

# Redis gives a message to another worker when it is not acknowledged for this long. It must exceed
# the longest task and the longest countdown, or a task that is still running starts again.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 60 * 60}

# A worker holds one message more than it runs: a long task does not keep others waiting behind it.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# A worker that starts before its broker waits for it, and one that loses it comes back.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# Results

# Results nobody fetched are dropped after a day.
CELERY_RESULT_EXPIRES = 24 * 60 * 60

# A task that has started says so, so that "pending" means "not begun".
CELERY_TASK_TRACK_STARTED = True

# Messages are JSON: pickle would let whoever reaches the broker run code in the worker.
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

# Logs

# The root logger stays as LOGGING configures it, in the worker as in the web process.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
