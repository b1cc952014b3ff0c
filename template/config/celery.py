"""The Celery application: `celery -A config worker` and `celery -A config beat` find it here."""

import os
import sys
from typing import Any

from celery import Celery
from django.conf import settings

from apps.pipeline.application import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

app: "Celery[Any]" = Celery("config")  # Any: its tasks have methods that celery-types lacks
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
install(app)

# `celery beat` reads CELERY_BEAT_SCHEDULER from the environment right after this import. The
# settings replace short names in it, such as database, with the classes that Celery knows. Seen in
# celery 5.7.0 (celery #4284, #9089). Delete these lines once the settings win.
if os.environ["DJANGO_SETTINGS_MODULE"] not in sys.modules:  # else Django is loading them now
    settings.CELERY_BEAT_SCHEDULER  # noqa: B018
