"""Settings for the test suite: fast, and closed to the outside."""

import os

from config.settings.project import *  # noqa: F403
from config.settings.project import BASE_DIR, DATABASES
from config.settings.project import INSTALLED_APPS as INSTALLED_APPS

SECRET_KEY = "only-for-tests"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# On SQLite a file, as in life: the real workers and Beats that tests start open it too.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "var" / f"test-{os.getpid()}.sqlite3"}

# A task sent by accident stays in this process. A test that wants a real broker, worker and result
# backend asks for the fixture `live_worker`.
CELERY_BROKER_URL = "memory://localhost/"
CELERY_RESULT_BACKEND = "cache+memory://"
CELERY_BROKER_USE_SSL = CELERY_REDIS_BACKEND_USE_SSL = None
for variable in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(variable, None)  # Celery prefers these to its settings
