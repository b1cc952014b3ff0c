"""The Celery application: `celery -A config worker` and `celery -A config beat` find it here."""

import os
import sys

from celery import Celery
from celery.signals import import_modules
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

# Transports without the moments in which a broker costs a message or a caller's patience.
TRANSPORT_ALIASES.update(
    amqp="apps.pipeline.transport:AMQPTransport",
    amqps="apps.pipeline.transport:AMQPSTransport",
    redis="apps.pipeline.transport:Transport",
    rediss="apps.pipeline.transport:Transport",
    sentinel="apps.pipeline.transport:SentinelTransport",
    sqs="apps.pipeline.sqs:Transport",
)

app = Celery("config", amqp="apps.pipeline.queues:AMQP", task_cls="apps.pipeline.task:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
# `celery beat` looks for CELERY_BEAT_SCHEDULER in the environment as soon as this module is there:
# the settings have to have been read by then, for they put it into Celery's words.
if os.environ["DJANGO_SETTINGS_MODULE"] not in sys.modules:  # else they are being read right now
    settings.CELERY_BEAT_SCHEDULER  # noqa: B018

app.autodiscover_tasks()
app.steps["worker"].update(("apps.pipeline.worker:Patience", "apps.pipeline.worker:SoftShutdown"))
app.steps["consumer"].add("apps.pipeline.worker:Heartbeat")


@import_modules.connect(sender=app)
def refuse_wrong_configuration(**kwargs: object) -> None:  # noqa: ARG001 - the signal's
    """Before worker and Beat start: a wrong setting ends them in words, not in a traceback."""
    from apps.pipeline.checks import report_and_exit

    report_and_exit()
