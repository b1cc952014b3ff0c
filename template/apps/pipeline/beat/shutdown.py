"""Stop Beat between two ticks on SIGTERM and SIGINT."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery.signals import beat_init


class Shutdown:
    """Stops Beat: at once while it sleeps, or at the end of the current tick.

    Celery's handler closes the scheduler in the middle of a tick. If it interrupts a publish to
    RabbitMQ, it waits for ever for a lock of the connection. Python also ignores the SystemExit of
    a handler that runs in a destructor. Seen in celery 5.7.0 (not reported yet). Once both are
    fixed, delete this module.
    """

    def __init__(self) -> None:
        self.requested = self._in_tick = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal. The second one stops Beat at once, for a tick that hangs."""
        stop_now, self.requested = self.requested or not self._in_tick, True
        if stop_now:
            raise SystemExit

    @contextmanager
    def after_tick(self) -> Iterator[None]:
        """Put off the stop until the tick has ended."""
        if self.requested:
            raise SystemExit
        self._in_tick = True
        try:
            yield
        finally:
            self._in_tick = False
        if self.requested:
            raise SystemExit


@beat_init.connect
def replace_handlers(sender: Any, **kwargs: Any) -> None:
    """Replace Celery's signal handlers, which only the main thread of a process can do."""
    shutdown = getattr(sender.scheduler, "shutdown", None)
    if shutdown and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, shutdown.handle)
