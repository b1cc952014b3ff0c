"""The local settings with the trial app and shorter timeouts."""

from config.settings.local import *  # noqa: F403
from config.settings.local import CELERY_BROKER_TRANSPORT_OPTIONS, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "apps.trial"]

if "visibility_timeout" in CELERY_BROKER_TRANSPORT_OPTIONS:
    CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] = 30
CELERY_BROKER_HEARTBEAT = (
    6  # RabbitMQ redelivers the tasks of a silent worker after twice this time
)
