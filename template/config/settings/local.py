"""Settings for your own machine: `just dev` and `just up`."""

from config.settings.env import env

# Mail is printed, unless `project` sets another backend.
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

from config.settings.project import *  # noqa: E402, F403

DEBUG = True

# `copier copy` writes a random key into .env. A clone of the repository has no .env.
SECRET_KEY = env.str("DJANGO_SECRET_KEY", "insecure-and-only-for-your-own-machine")

ALLOWED_HOSTS = ["*"]

# The page reads Celery's events to show how long each step of a task took.
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True

# `just dev` kills its processes five seconds after Ctrl-C.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 3
