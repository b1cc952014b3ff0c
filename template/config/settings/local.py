"""Settings for your own machine: `just dev` and `just up`."""

from config.settings.env import env

# Mails are printed, unless `project` names another backend.
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

from config.settings.project import *  # noqa: E402, F403

DEBUG = True

# The copy that made this project wrote a key of its own into .env; a clone without .env uses this.
SECRET_KEY = env.str("DJANGO_SECRET_KEY", "insecure-and-only-for-your-own-machine")

ALLOWED_HOSTS = ["*"]

# The landing page shows how long each leg of a task took: it reads that from Celery's events.
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True

# `just dev` waits five seconds for its processes when it ends.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 3
