"""The declared queues, and additions to Celery's support of RabbitMQ's quorum queues.

On RabbitMQ a task with a countdown waits in the broker. It passes a chain of exchanges, which
Celery's worker declares and binds to its queues.
"""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Any

from celery.app import amqp
from kombu import Connection, Queue
from kombu.transport import native_delayed_delivery as delay

from apps.pipeline.broker.errors import listed
from apps.pipeline.logs import ids

DELAY = delay.level_name(delay.MAX_LEVEL)  # the first exchange of the chain
DELAYED = re.compile(rf"^([01]\.){{{delay.MAX_NUMBER_OF_BITS_TO_USE}}}")

# By default RabbitMQ 4.0 and later drop a message that was redelivered 20 times, and log nothing.
# Deploys and lost connections redeliver messages. A task that kills its process is limited by
# `max_retries` instead.
DELIVERY_LIMIT = 1_000_000_000


class Queues(amqp.Queues):
    """The queues. Celery gives declared queues the default routing key, and the classic type.

    Seen in celery 5.7.0 (celery #658 and #2508; the type is not reported yet). Delete the lines of
    `__setitem__` that set them once fixed.
    """

    create_missing_queue_type: str | None
    max_priority: int | None

    def __setitem__(self, name: str, queue: Any) -> None:
        # With Celery's default routing key for all queues, each message would reach every queue.
        # A fanout exchange ignores the key on RabbitMQ, and on Redis all workers need the same.
        if not is_fanout(queue):
            queue.routing_key = queue.routing_key or name
        elif self.create_missing_queue_type == "quorum":
            # With Celery's default key, delayed tasks of the default queue would come here too.
            queue.routing_key = queue.routing_key or queue.exchange.name
        arguments = queue.queue_arguments or {}
        is_kept = queue.durable and not (queue.auto_delete or queue.exclusive)
        if self.max_priority is not None or "x-max-priority" in arguments:
            arguments = {key: value for key, value in arguments.items() if key != "x-queue-type"}
            queue.queue_arguments = arguments  # RabbitMQ refuses priorities for quorum queues
        # Celery's setting for undeclared queues. RabbitMQ refuses it for queues that it deletes.
        elif self.create_missing_queue_type == "quorum" and is_kept:
            arguments = {"x-queue-type": "quorum"} | arguments
        if arguments.get("x-queue-type") == "quorum":
            queue.queue_arguments = {"x-delivery-limit": DELIVERY_LIMIT} | arguments
        super().__setitem__(name, queue)


def declared(conf: Any) -> list[str]:
    """The names of the default queue and of those in CELERY_TASK_QUEUES."""
    queues = conf.task_queues or ()
    names = queues if isinstance(queues, Mapping) else [getattr(q, "name", q) for q in queues]
    return [*dict.fromkeys([conf.task_default_queue, *names])]


# Messages for tasks that no worker knows go to this queue, unless the app `failed` stores them. It
# does not store hidden arguments.
UNKNOWN_QUEUE = "unknown-tasks"

# The header of a message whose sender hides the arguments.
HIDDEN = "hidden_arguments"


def hides_arguments(app: Any, name: str) -> bool:
    """Whether the arguments of a task are sensitive: `@shared_task(hide_arguments=True)`."""
    return bool(getattr(app.tasks.get(name), "hide_arguments", False))


class AMQP(amqp.AMQP):
    queues_cls = Queues

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._prepared: set[str] = set()

    def Queues(self, queues: Any, *args: Any, **options: Any) -> Any:  # noqa: N802 - Celery's name
        default = self.app.conf.task_default_queue
        names = queues if isinstance(queues, Mapping) else [queue.name for queue in queues or ()]
        if queues and default not in names:
            # Without this no worker consumes the default queue. Seen in celery 5.7.0 (not reported
            # yet). Delete this method once fixed.
            mapping = isinstance(queues, Mapping)
            queues = {default: {}, **queues} if mapping else [Queue(default), *queues]
        return super().Queues(queues, *args, **options)

    def as_task_v2(self, task_id: str, name: str, *args: Any, **options: Any) -> Any:
        """The message of a task. Its arguments stay hidden in a retry.

        A retry has the header, but Celery does not keep `argsrepr`. Seen in celery 5.7.0 (not
        reported yet). Once fixed, only `hide_arguments` needs this method.
        """
        given = [part for part in ("argsrepr", "kwargsrepr") if options.get(part) is not None]
        hidden = HIDDEN in (options.get("headers") or {}) or hides_arguments(self.app, name)
        if hidden and not given:
            options |= {"argsrepr": "(hidden)", "kwargsrepr": "(hidden)"}
        message = super().as_task_v2(task_id, name, *args, **options)
        if hidden or given:
            message.headers[HIDDEN] = True
        return message

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()  # type: ignore[misc]

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if getattr(options.get("exchange"), "name", None) == DELAY:
                self.prepare_delay()
            # A retry passes the headers of its first message.
            given = ids.headers_to_send() | (options.get("headers") or {})
            options["headers"] = given | {ids.SENT_AT: time.time()}
            return send(producer, name, message, **options)

        return send_task_message

    def prepare_delay(self) -> None:
        """Declare the exchanges and queues for messages with a delay.

        Without this such a message is lost if no worker has declared them yet. Seen in celery
        5.7.0 (not reported yet). Once fixed, delete this and the function `prepare_delay` below.
        """
        if missing := self.queues.keys() - self._prepared:
            with self.app.connection_for_write() as connection:
                prepare_delay(connection, [self.queues[queue] for queue in missing])
            self._prepared |= missing


def prepare_delay(connection: Connection, queues: list[Any]) -> None:
    """Declare the queues and the chain of exchanges, and bind the queues to the chain."""
    delay.declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    for queue in queues:
        if is_fanout(queue):  # each worker declares a queue of its own
            exchange = queue.exchange.bind(connection.default_channel)
            exchange.declare()
            exchange.bind_to(delay.CELERY_DELAYED_DELIVERY_EXCHANGE, f"#.{queue.routing_key}")
            continue
        queue.bind(connection.default_channel).declare()
        delay.bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def is_fanout(queue: Any) -> bool:
    return getattr(queue.exchange, "type", None) == "fanout"


def delayed(routing_key: str, seconds: int) -> dict[str, str]:
    """The exchange and routing key with which a message reaches its queue after a delay."""
    return {"exchange": DELAY, "routing_key": delay.calculate_routing_key(seconds, routing_key)}


def is_quorum(app: Any) -> bool:
    """Whether the broker is RabbitMQ with quorum queues, which delays messages itself."""
    conf = app.conf
    if conf.task_default_queue_type != "quorum" or conf.task_queue_max_priority is not None:
        return False
    return listed(conf.broker_url or "")[0].startswith("amqp")


def is_delayed_by_broker(app: Any, delivery_info: Any) -> bool:
    """Whether RabbitMQ delays a message. It cannot if its queue has a direct exchange."""
    queue = queue_of(app, delivery_info)
    exchange = app.amqp.queues[queue].exchange if queue else None
    return is_quorum(app) and getattr(exchange, "type", None) != "direct"


def is_broadcast(app: Any, delivery_info: Any) -> bool:
    """Whether each worker gets its own copy of a message."""
    name = (delivery_info or {}).get("exchange")
    return any(is_fanout(one) and one.exchange.name == name for one in app.amqp.queues.values())


def queue_of(app: Any, delivery_info: Any) -> str | None:
    """The declared queue of a message, also after a delay. None if it is not declared.

    After a delay in RabbitMQ, the routing key begins with the bits of the delay.
    """
    key = DELAYED.sub("", (delivery_info or {}).get("routing_key") or "")
    return key if key in app.amqp.queues else None


def whole_seconds(app: Any, countdown: float | None, eta: datetime | str | None) -> int | None:
    """The delay in whole seconds, rounded up; None if there is none.

    An ETA without a time zone is in the project's zone. Celery fails if a delay is below a second.
    Seen in celery 5.7.0 (not reported yet). Once fixed, delete the call in `Task.apply_async`.
    """
    if eta:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        moment = moment if moment.tzinfo else moment.replace(tzinfo=app.timezone)
        countdown = (moment - app.now()).total_seconds()
    return ceil(countdown) if countdown and countdown > 0 else None
