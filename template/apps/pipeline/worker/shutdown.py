"""How a worker stops on SIGTERM."""

import faulthandler
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from billiard import active_children
from celery import bootsteps, signals
from celery.worker import state
from kombu.utils.imports import symbol_by_name

logger = logging.getLogger(__name__)


class SoftShutdown(bootsteps.StartStopStep):
    """On SIGTERM: take no more messages, stop as soon as no task runs, exit with 0.

    After `worker_soft_shutdown_timeout`, or on a second SIGTERM, the messages of tasks that still
    run return to their queues at once. Celery's own soft shutdown sleeps for the whole
    timeout and acknowledges nothing meanwhile. Seen in celery 5.7.0 (celery #9505). Once fixed,
    delete this and its line in WORKER_STEPS, and set REMAP_SIGTERM=SIGQUIT for workers.
    """

    requires = ("celery.worker.components:Pool",)

    POLL_INTERVAL = 0.2  # seconds
    EXIT_LIMIT = 20  # seconds for Celery to stop the pool and exit; it takes less than three
    HANG_LIMIT = 25  # seconds after which a process that does not even handle a signal is ended

    stopping_since: float | None = None
    is_green = is_ending = False
    cancelled_consumer: Any = None

    def start(self, parent: Any) -> None:
        install = symbol_by_name("celery.apps.worker:install_worker_term_hard_handler")
        install(parent, sig="SIGTERM", exitcode=0)
        self.is_green, stop = parent.pool.is_green, signal.getsignal(signal.SIGTERM)
        if self.is_green or (parent.hub and threading.current_thread() is threading.main_thread()):
            self.parent, self.conf = parent, parent.app.conf
            # A signal handler can run in the hub of gevent and eventlet, which cannot wait.
            later = partial(parent.timer.call_after, 0, stop)
            self.stop_at_once: Any = later if self.is_green else stop
            signal.signal(signal.SIGTERM, self._on_sigterm)
            signal.signal(signal.SIGALRM, self._stop)
            self.polled_at = time.monotonic()
            parent.timer.call_repeatedly(self.POLL_INTERVAL, self._poll)

    def _on_sigterm(self, *args: Any) -> None:
        # Without a broker the event loop does not run.
        loop_runs = time.monotonic() - self.polled_at < 10 * self.POLL_INTERVAL
        if self.stopping_since is not None or not (loop_runs or state.active_requests):
            self._stop(*args)
            return
        self.stopping_since = time.monotonic()
        about = {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}
        signals.worker_shutting_down.send(sender=self.parent.hostname, **about)
        limit = self.conf.worker_soft_shutdown_timeout + self._last_receive() + self.POLL_INTERVAL
        signal.setitimer(signal.ITIMER_REAL, limit)  # in case the loop does not run

    def _poll(self) -> None:
        self.polled_at = time.monotonic()
        # After SIGINT Celery runs its timers in another thread until the tasks have ended.
        is_in_loop = self.is_green or threading.current_thread() is threading.main_thread()
        if self.stopping_since is None or self.is_ending or not is_in_loop:
            return
        self.parent.consumer.is_stopping = True
        consumer = self.parent.consumer.task_consumer
        if consumer and consumer is not self.cancelled_consumer:  # new after a reconnect
            self.cancelled_consumer = consumer
            if self.is_green:  # only the main greenlet can read from this connection
                self.parent.consumer.call_soon(self._cancel_and_wait, consumer)
            else:
                consumer.cancel()
        waited = self.polled_at - self.stopping_since
        runs = {*state.reserved_requests} - {*state.scheduled_requests}  # type: ignore[attr-defined]
        if waited >= (self.conf.worker_soft_shutdown_timeout if runs else self._last_receive()):
            self._stop(warm=not runs)

    def _cancel_and_wait(self, consumer: Any) -> None:
        consumer.cancel()
        # Celery's loop would look at its state every two seconds.
        while self.parent.blueprint.state == bootsteps.RUN:  # type: ignore[attr-defined]
            state.maybe_shutdown()
            with suppress(TimeoutError):
                consumer.connection.drain_events(timeout=self.POLL_INTERVAL)

    def _last_receive(self) -> float:
        """Seconds until SQS has answered the last receive request.

        If the answer is not read, its messages stay hidden until their lease ends.
        """
        wait: float = self.conf.broker_transport_options.get("wait_time_seconds", 0)
        return wait and wait + 1

    def _stop(self, *args: Any, warm: bool = False) -> None:
        self.is_ending = True
        signal.signal(signal.SIGALRM, self._exit)
        signal.setitimer(signal.ITIMER_REAL, self.EXIT_LIMIT)
        # It needs neither the main thread nor the GIL, and writes the traceback of each thread.
        faulthandler.dump_traceback_later(self.HANG_LIMIT, exit=True, file=2)
        self.conf.worker_soft_shutdown_timeout = 0  # it has passed
        if warm:
            state.should_stop = 0  # type: ignore[assignment]  # the exit code
        else:
            self.stop_at_once()

    def _exit(self, *args: Any) -> None:
        """End a worker whose pool does not stop. Its messages return to their queues.

        The exit code is 0, as after each stop by SIGTERM.
        """
        logger.error("The worker did not stop within %d s: ending it", self.EXIT_LIMIT)
        for pid in filter(None, [process.pid for process in active_children()]):
            os.kill(pid, signal.SIGKILL)
        os._exit(0)
