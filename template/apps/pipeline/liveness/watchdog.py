"""A watchdog that ends a process that hangs, so that its supervisor restarts it."""

import logging
import os
import sys
import threading
import traceback

logger = logging.getLogger(__name__)

LOG_TIME = 5  # seconds for the last lines of the log


class Watchdog:
    """A thread that ends the process if `reset` is not called for `limit` seconds.

    It counts its own sleeps instead of using the clock, so it does not end a process that was
    frozen. It cannot run while a C extension holds the global interpreter lock (GIL). In this case
    only the age of the heartbeat shows that the process hangs.
    """

    def __init__(self, name: str, limit: float = 60) -> None:
        self.name, self.limit = name, limit
        self._since_reset, self._stopped = 0.0, threading.Event()

    def reset(self) -> None:
        """Reset the count, because the process works."""
        self._since_reset = 0.0

    def start(self) -> None:
        self.reset()
        self._stopped.clear()
        threading.Thread(target=self._watch, name=f"{self.name}-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        pause = min(5, self.limit / 4)
        while not self._stopped.wait(pause):
            self._since_reset += pause
            if self._since_reset > self.limit:
                # A process that hangs while it logs a line has the lock of the handler.
                threading.Timer(LOG_TIME, os._exit, (1,)).start()
                logger.critical("%s hung for %.0f s: ending it", self.name, self.limit)
                frame = sys._current_frames().get(threading.main_thread().ident or 0)
                logger.error("The main thread:\n%s", "".join(traceback.format_stack(frame)))
                os._exit(1)
