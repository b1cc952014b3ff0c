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
from redis.exceptions import RedisError

from apps.pipeline import heartbeat, queues, takers, transport
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
    """On SIGTERM: take nothing more, leave as soon as nothing runs, exit 0.

    What still runs after `worker_soft_shutdown_timeout` goes back to the queue at once, and so does
    all that runs when a second SIGTERM comes. Celery's own soft shutdown sleeps for the whole of
    its time and acknowledges nothing meanwhile: celery/celery#9505, seen in 5.7.0.
    """

    LOOK = 0.2  # seconds between two looks at what runs

    told: float | None = None
    cancelled: Any = None

    def start(self, parent: Any) -> None:
        install = symbol_by_name("celery.apps.worker:install_worker_term_hard_handler")
        install(parent, sig="SIGTERM", exitcode=0)
        if parent.hub and threading.current_thread() is threading.main_thread():
            self.parent, self.conf = parent, parent.app.conf
            self.leave_at_once: Any = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._on_sigterm)
            signal.signal(signal.SIGALRM, self._leave)
            self.looked = time.monotonic()
            self.looks = parent.timer.call_repeatedly(self.LOOK, self._look)

    def _on_sigterm(self, *args: Any) -> None:
        loop_turns = time.monotonic() - self.looked < 10 * self.LOOK  # it does not without a broker
        if self.told is not None or not (loop_turns or state.active_requests):
            self._leave(*args)
            return
        self.told = time.monotonic()
        limit = self.conf.worker_soft_shutdown_timeout + self._last_poll() + self.LOOK
        signal.setitimer(signal.ITIMER_REAL, limit)  # should the loop not turn by then

    def _look(self) -> None:
        self.looked = time.monotonic()
        if self.told is None:
            return
        consumer = self.parent.consumer.task_consumer
        if consumer and consumer is not self.cancelled:  # another one after a lost connection
            self.cancelled = consumer
            consumer.cancel()
        waited = self.looked - self.told
        runs = {*state.reserved_requests} - {*state.scheduled_requests}  # type: ignore[attr-defined]
        if waited >= (self.conf.worker_soft_shutdown_timeout if runs else self._last_poll()):
            self._leave(signal.SIGTERM, None)

    def _last_poll(self) -> float:
        """Seconds until SQS has answered the last poll: what comes later would stay hidden."""
        polling: float = self.conf.broker_transport_options.get("wait_time_seconds", 0)
        return polling and polling + 1

    def _leave(self, *args: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.looks.cancel()
        self.conf.worker_soft_shutdown_timeout = 0  # over by now
        self.leave_at_once(*args)


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
        with suppress(OperationalError, OSError, RedisError):
            takers.withdraw(parent.app, parent.hostname, parent.app.amqp.queues.consume_from)

    def _on_turn(self) -> None:
        self.turned = time.monotonic()

    def _on_received(self, **kwargs: Any) -> None:
        self.received = time.monotonic()

    def _watch(self, parent: Any) -> None:
        while not self.ended.is_set():
            if self._consumes(parent):
                queues_taken = list(parent.app.amqp.queues.consume_from)
                heartbeat.beat("worker", "\n".join(queues_taken))
                self.watchdog.pat()
                with suppress(OperationalError, OSError, RedisError):
                    takers.say(parent.app, parent.hostname, queues_taken)
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
