"""Settings that hold everywhere. `project`, which is yours, adds to these and may change them."""

import sys
from difflib import get_close_matches
from typing import Any
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
# Their tables exist only where they are used.
if CELERY_BEAT_SCHEDULER.endswith(":DatabaseScheduler"):
    INSTALLED_APPS.append("django_celery_beat")
if CELERY_RESULT_BACKEND.startswith("django-"):
    INSTALLED_APPS.append("django_celery_results")

MIDDLEWARE = [
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

TEMPLATES = [
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

# What the landing page's button runs, with a sentence; `project` names a task of yours.
LANDING_TASK = "apps.pipeline.tasks.echo"

# Data

DATABASES = {"default": database("DATABASE_URL", f"sqlite:///{BASE_DIR}/var/db.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Web, worker and Beat write at once: readers go on beside a writer (WAL), a writer waits for
    # its turn (20 s) and takes the lock when its transaction begins, not in the middle of it.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# People

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
    sys.exit(f"TIME_ZONE={TIME_ZONE} is no time zone. Write {near}, for example.")
USE_I18N = True
USE_TZ = True

# Files

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

# Logs: one line each, to standard output, for whoever runs the process to collect

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"away": {"()": "apps.pipeline.logs.ResultBackendAway"}},
    "loggers": {"celery.backends.asynchronous": {"filters": ["away"]}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
}
