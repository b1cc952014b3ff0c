"""Settings for tests: fast, and without connections to other servers."""

import os

from config.settings.project import *  # noqa: F403
from config.settings.project import BASE_DIR, DATABASES, INSTALLED_APPS

SECRET_KEY = "only-for-tests"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A file instead of SQLite's in-memory database, because workers and Beats of tests open it too.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "var" / f"test-{os.getpid()}.sqlite3"}

# Off, even if the environment turns it on. The tests of the outbox turn it on.
TASK_OUTBOX = False
INSTALLED_APPS = [*dict.fromkeys([*INSTALLED_APPS, "apps.pipeline.outbox"])]

# A task that a test sends by accident does not leave the process. For a real broker, worker and
# result backend use the fixture `live_worker`.
CELERY_BROKER_URL = "memory://localhost/"
CELERY_RESULT_BACKEND = "cache+memory://"
CELERY_REDBEAT_REDIS_URL = "redis://127.0.0.1:1/0"  # no server listens there
CELERY_BROKER_USE_SSL = CELERY_REDIS_BACKEND_USE_SSL = None
for variable in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(variable, None)  # Celery prefers these to its settings
