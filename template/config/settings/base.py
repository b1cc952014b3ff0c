"""Settings for every environment. Add and change settings in `project`, which is your file."""

import sys
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, available_timezones

from config.settings.celery import *  # noqa: F403
from config.settings.celery import CELERY_BEAT_SCHEDULER, CELERY_RESULT_BACKEND
from config.settings.env import BASE_DIR as BASE_DIR
from config.settings.env import database, env

# Applications

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "apps.pipeline",
]
# These apps are installed only if they are used, so that other projects have no unused tables.
if CELERY_BEAT_SCHEDULER.endswith(":DatabaseScheduler"):
    INSTALLED_APPS.append("django_celery_beat")
if CELERY_RESULT_BACKEND.startswith("django-") and find_spec("django_celery_results"):
    INSTALLED_APPS.append("django_celery_results")
# If on, a task is stored in the transaction that sends it, and published after the commit. If off,
# it is lost if the broker is away then, or the process is killed. Set it in the environment:
# docs/reliability.md.
if TASK_OUTBOX := env.bool("TASK_OUTBOX", False):
    INSTALLED_APPS.append("apps.pipeline.outbox")
# The days for which a task that failed for good is kept, so that you can run it again. If 0, it is
# only logged.
if FAILED_TASK_DAYS := env.int("FAILED_TASK_DAYS", 30):
    INSTALLED_APPS.append("apps.pipeline.failed")
# The path of a function that is called with each FailedTask, to tell somebody: docs/reliability.md.
FAILED_TASK_NOTIFY: str | None = None
# The port at which worker and Beat serve metrics to Prometheus. They serve none if it is 0, or if
# the project does not have the answer `prometheus` to `monitoring`.
METRICS_PORT = env.int("METRICS_PORT", 0)
if METRICS_PORT and find_spec("apps.pipeline.metrics"):
    INSTALLED_APPS.append("apps.pipeline.metrics")
# Whether to keep revoked and expired tasks too. Most projects revoke and expire tasks on purpose.
KEEP_REVOKED_TASKS = env.bool("KEEP_REVOKED_TASKS", False)

MIDDLEWARE = [
    "apps.pipeline.logs.middleware.RequestIdMiddleware",
    "apps.pipeline.status.middleware.HealthCheckMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# The task of the page's button, which takes a text. `project` replaces it with one of yours.
LANDING_TASK = "apps.pipeline.tasks.echo"

# The version of the code, for example the tag of the image. The page compares it with the workers'.
APP_VERSION = env.str("APP_VERSION", "")

# Database

sqlite_url = f"sqlite:///{quote(str(BASE_DIR))}/var/db.sqlite3"
DATABASES = {"default": database("DATABASE_URL", sqlite_url)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Web, worker and Beat write concurrently. With WAL, readers do not wait for a writer. A writer
    # takes the lock when its transaction begins, and waits up to 20 s for it.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Authentication

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Languages and time

LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("TIME_ZONE")
try:
    ZoneInfo(TIME_ZONE)
except (KeyError, ValueError, OSError):  # too early for a system check
    near = "".join(get_close_matches(TIME_ZONE, available_timezones(), n=1)) or "Europe/Vienna"
    sys.exit(f"TIME_ZONE={TIME_ZONE} is not a time zone. Write {near}, for example.")
USE_I18N = True
USE_TZ = True

# Files

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

# Django's defaults. `project` can set others, for example for uploaded files. `production` replaces
# the one for static files, if `project` did not.
static_files = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
STORAGES: dict[str, Any] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": static_files,
}

# Logs, to standard error. See docs/logs.md.

LOG_LEVEL = env.str("LOG_LEVEL", "").upper()  # if not set, the commands of worker and Beat decide

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "apps.pipeline.logs.lines.LineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "filters": {
        "ids": {"()": "apps.pipeline.logs.lines.Ids"},
        "without_data": {"()": "apps.pipeline.logs.lines.WithoutData"},
        "reconnect": {"()": "apps.pipeline.logs.corrections.ResultBackendReconnect"},
        "unacknowledged": {"()": "apps.pipeline.logs.corrections.LostAcknowledgement"},
        "in_production": {"()": "django.utils.log.RequireDebugFalse"},
    },
    "loggers": {
        "celery.app.trace": {"filters": ["without_data"]},
        "celery.backends.asynchronous": {"filters": ["reconnect"]},
        "celery.worker.consumer.consumer": {"filters": ["unacknowledged", "without_data"]},
        "celery.worker.request": {"filters": ["unacknowledged", "without_data"]},
        "celery.worker.strategy": {"filters": ["without_data"]},
        # Django's own handlers would write these lines a second time, without ids.
        "django": {"handlers": ["mail_admins"]},
        "django.server": {"propagate": True},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["ids"], "formatter": "line"},
        "mail_admins": {  # as in Django's own configuration
            "class": "django.utils.log.AdminEmailHandler",
            "filters": ["in_production"],
            "level": "ERROR",
        },
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL or "INFO"},
}
