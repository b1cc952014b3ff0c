"""Celery's part that knows queues, with what RabbitMQ's quorum queues need.

`config/celery.py` names the class. A task with a countdown goes through RabbitMQ's own delay: a
chain of exchanges that Celery's worker makes, and binds to the queues that it knows.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Any

from celery.app import amqp
from kombu import Connection, Queue
from kombu.transport import native_delayed_delivery as delay

DELAY = delay.level_name(delay.MAX_LEVEL)  # the exchange where the chain begins
DELAYED = re.compile(rf"^([01]\.){{{delay.MAX_NUMBER_OF_BITS_TO_USE}}}")

# From 4.0 on RabbitMQ drops a message that came back 20 times, without a word: deploys and lost
# connections bring them back, and what kills its process is given up by its retries.
DELIVERY_LIMIT = 1_000_000_000


class Queues(amqp.Queues):
    create_missing_queue_type: str | None

    def __setitem__(self, name: str, queue: Any) -> None:
        # One routing key for all, Celery's default, would bring each message to every queue.
        queue.routing_key = queue.routing_key or name
        arguments = queue.queue_arguments or {}
        if self.create_missing_queue_type == "quorum":  # Celery gives it to what is not declared
            arguments = {"x-queue-type": "quorum"} | arguments
        if arguments.get("x-queue-type") == "quorum":
            queue.queue_arguments = {"x-delivery-limit": DELIVERY_LIMIT} | arguments
        super().__setitem__(name, queue)


def declared(conf: Any) -> list[str]:
    """The queues of CELERY_TASK_QUEUES and the default one, which need not be in there."""
    queues = conf.task_queues or ()
    names = queues if isinstance(queues, Mapping) else [queue.name for queue in queues]
    return [*dict.fromkeys([conf.task_default_queue, *names])]


class AMQP(amqp.AMQP):
    queues_cls = Queues

    def Queues(self, queues: Any, *args: Any, **options: Any) -> Any:  # noqa: N802 - Celery's name
        default = self.app.conf.task_default_queue
        names = queues if isinstance(queues, Mapping) else [queue.name for queue in queues or ()]
        if queues and default not in names:
            # Without this no worker takes what is routed nowhere else.
            mapping = isinstance(queues, Mapping)
            queues = {default: {}, **queues} if mapping else [Queue(default), *queues]
        return super().Queues(queues, *args, **options)

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()  # type: ignore[misc]
        prepared: set[str] = set()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            missing = self.queues.keys() - prepared
            if missing and getattr(options.get("exchange"), "name", None) == DELAY:
                # A worker may never have run, or not know the queue: the task would not reach it.
                with self.app.connection_for_write() as link:
                    prepare_delay(link, [self.queues[queue] for queue in missing])
                prepared.update(missing)
            return send(producer, name, message, **options)

        return send_task_message


def prepare_delay(link: Connection, queues: list[Any]) -> None:
    """Make the queues and the chain of exchanges, and have the chain end in the queues."""
    delay.declare_native_delayed_delivery_exchanges_and_queues(link, "quorum")
    for queue in queues:
        queue.bind(link.default_channel).declare()
        delay.bind_queue_to_native_delayed_delivery_exchange(link, queue)


def delayed(routing_key: str, seconds: int) -> dict[str, str]:
    """Where a message is published that is to reach its queue later."""
    return {"exchange": DELAY, "routing_key": delay.calculate_routing_key(seconds, routing_key)}


def is_quorum(app: Any) -> bool:
    """Whether RabbitMQ keeps what is to run later."""
    conf = app.conf
    on_rabbitmq = str(conf.broker_url).startswith("amqp")
    return on_rabbitmq and bool(conf.task_default_queue_type == "quorum")


def queue_of(app: Any, delivery_info: Any) -> str | None:
    """The queue that a message came from, through a delay or not, where the project names it."""
    key = DELAYED.sub("", (delivery_info or {}).get("routing_key") or "")
    return key if key in app.amqp.queues else None


def whole_seconds(app: Any, countdown: float | None, eta: datetime | str | None) -> int | None:
    """The delay in RabbitMQ's measure, rounded up; None where there is none.

    Celery fails over less than a second. An ETA without a time zone is in the project's.
    """
    if eta:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        moment = moment if moment.tzinfo else moment.replace(tzinfo=app.timezone)
        countdown = (moment - app.now()).total_seconds()
    return ceil(countdown) if countdown and countdown > 0 else None
