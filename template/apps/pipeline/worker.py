"""What this project adds to Celery's worker; `config/celery.py` and the settings name it."""

import logging
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.signals import task_received
from celery.worker import consumer, state
from kombu import Message
from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name

from apps.pipeline import heartbeat, queues, transport
from apps.pipeline.watchdog import Watchdog

logger = logging.getLogger(__name__)

# Seconds without a turn of the worker's event loop, or without a message taken while messages wait
# and there is room, until the heartbeat stops; the watchdog ends the process at 60.
STUCK_AFTER = 15

# A message for a task that this worker does not know is offered again after so many seconds, as a
# newer worker may be starting; after so many offers it is kept in a queue for a person to look at.
UNKNOWN_PAUSE = 10
UNKNOWN_OFFERS = 60
UNKNOWN_QUEUE = "unknown-tasks"

PATIENCE = {"max_retries": 30, "interval_start": 0, "interval_step": 0.5, "interval_max": 1}


class Patience(bootsteps.Step):
    """A worker has nobody waiting at a screen: it gives broker and result backend half a minute."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        conf = parent.app.conf
        options, results = conf.broker_transport_options, conf.result_backend_transport_options
        times: dict[str, Any] = {"socket_timeout": 30, "socket_connect_timeout": 5}
        times |= {"answer_timeout": 30, "client-config": {"connect_timeout": 5, "read_timeout": 30}}
        times = {name: seconds for name, seconds in times.items() if name in options}
        conf.update(
            broker_connection_timeout=5,
            broker_transport_options=options | times | PATIENCE,
            redis_socket_connect_timeout=5,
            redis_socket_timeout=30,
            result_backend_transport_options=results
            | {"retry_policy": {"timeout": 30, **PATIENCE}},
            task_publish_retry_policy=PATIENCE,
        )


class SoftShutdown(bootsteps.StartStopStep):
    """SIGTERM means: finish what is possible in the soft shutdown's time, return the rest, exit 0.

    Celery's own answer to SIGTERM waits for every task however long it takes, and is killed.
    """

    def start(self, parent: Any) -> None:
        install = symbol_by_name("celery.apps.worker:install_worker_term_hard_handler")
        install(parent, sig="SIGTERM", exitcode=0)
        polling = parent.app.conf.broker_transport_options.get("wait_time_seconds")
        if polling and parent.hub:
            leave: Any = signal.getsignal(signal.SIGTERM)

            def leave_after_the_last_poll(*args: Any) -> None:
                signal.signal(signal.SIGTERM, leave)  # a second one hurries
                if consumer := parent.consumer.task_consumer:
                    consumer.cancel()
                    parent.hub.call_later(polling + 1, leave, *args)
                else:  # it cannot reach SQS and polls nothing
                    leave(*args)

            signal.signal(signal.SIGTERM, leave_after_the_last_poll)


class Heartbeat(bootsteps.StartStopStep):
    """A heartbeat as long as the worker consumes, and an end to a worker that does not."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self.turned = self.received = time.monotonic()
        self.watchdog = Watchdog("worker")
        self.ended = threading.Event()
        heartbeat.stop("worker")  # what one before this left, when it was killed
        self.thread: threading.Thread | None = None
        task_received.connect(self._on_received)

    def start(self, parent: Any) -> None:
        self.timer = parent.timer.call_repeatedly(1, self._on_turn)
        self._on_turn()
        if self.thread is None:
            self.thread = threading.Thread(target=self._watch, args=(parent,), daemon=True)
            self.thread.start()
            self.watchdog.start()

    def stop(self, parent: Any) -> None:
        self.timer.cancel()

    def shutdown(self, parent: Any) -> None:
        self.ended.set()
        self.watchdog.stop()
        heartbeat.stop("worker")

    def _on_turn(self) -> None:
        self.turned = time.monotonic()

    def _on_received(self, **kwargs: Any) -> None:
        self.received = time.monotonic()

    def _watch(self, parent: Any) -> None:
        while not self.ended.is_set():
            if self._consumes(parent):
                heartbeat.beat("worker")
                self.watchdog.pat()
            self.ended.wait(heartbeat.INTERVAL)

    def _consumes(self, parent: Any) -> bool:
        """Whether the worker does its work, or has a reason not to: a broker that is away."""
        now = time.monotonic()
        room = len(state.reserved_requests) < parent.pool.num_processes
        waiting = waiting_messages(parent)
        if waiting is None:
            return True
        if not (waiting and room):
            self.received = max(self.received, now - 1)
        return now - self.turned < STUCK_AFTER and now - self.received < STUCK_AFTER


def waiting_messages(parent: Any) -> int | None:
    """How many messages wait for this worker, asked on a connection of its own; None if unknown."""
    count = 0
    with parent.app.connection_for_read() as link:
        try:
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            for queue in parent.task_consumer.queues:
                # An empty list of Redis is none, and no error.
                with suppress(*link.channel_errors), link.channel() as channel:
                    count += queue.bind(channel).queue_declare(passive=True).message_count
        except (OperationalError, OSError, *link.connection_errors):
            return None
    return count


class Consumer(consumer.Consumer):
    """Celery's consumer, which keeps messages for tasks that it does not know yet.

    Celery's own discards them: in a rolling deploy an old worker would drop the new code's tasks.
    """

    qos: Any

    def on_close(self) -> None:
        # The connection is lost, and Celery forgets what it has not begun: on Redis these would
        # come back only after the visibility timeout.
        waiting = {*state.reserved_requests, *state.scheduled_requests}  # type: ignore[attr-defined]
        for request in waiting - {*state.active_requests}:
            transport.keep_unbegun(request.message)
        super().on_close()

    def on_unknown_task(self, body: Any, message: Message, exc: BaseException) -> None:
        headers: dict[str, Any] = message.headers
        offers = headers.get("offers", 0) + 1
        words = "Task %s[%s] is not known here: it waits for another worker (%d of %d offers)"
        logger.warning(words, headers.get("task"), headers.get("id"), offers, UNKNOWN_OFFERS)
        if queues.is_quorum(self.app):
            self._offer_again(message, offers)  # RabbitMQ holds it back
            return
        self.qos.increment_eventually()  # it takes no place from those that are known
        self.timer.call_after(UNKNOWN_PAUSE, self._offer_after_pause, (message, offers))

    def _offer_after_pause(self, message: Message, offers: int) -> None:
        self._offer_again(message, offers)
        self.qos.decrement_eventually()

    def _offer_again(self, message: Message, offers: int) -> None:
        to = message.delivery_info
        destination = {"exchange": to["exchange"], "routing_key": to["routing_key"]}
        if offers >= UNKNOWN_OFFERS:
            queue = self.app.amqp.queues.new_missing(UNKNOWN_QUEUE)
            destination = {"exchange": queue.exchange, "routing_key": UNKNOWN_QUEUE}
            destination |= {"declare": [queue]}
            logger.error("A task nobody knows is kept in the queue %s: %s", UNKNOWN_QUEUE, to)
        elif queues.is_quorum(self.app):
            destination = queues.delayed(to["routing_key"], UNKNOWN_PAUSE)
        with self.app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                headers=message.headers | {"offers": offers},
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.properties.get("correlation_id"),
                reply_to=message.properties.get("reply_to"),
                retry=True,
                retry_policy=PATIENCE,
                **destination,
            )
        message.ack()
