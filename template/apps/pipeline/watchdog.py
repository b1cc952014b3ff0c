"""Ends a process that no longer does its work, so that its supervisor starts a new one."""

import logging
import os
import sys
import threading
import traceback

logger = logging.getLogger(__name__)


class Watchdog:
    """A thread that ends the process when nobody pats it for a time, in seconds.

    It counts its own seconds: a process that was frozen as a whole has done nothing wrong when it
    goes on. It needs Python's lock now and then, so a call into C that never gives it back hides
    from it; a heartbeat that grows old shows that too.
    """

    def __init__(self, name: str, limit: float = 60) -> None:
        self.name = name
        self.limit = limit
        self._unpatted = 0.0
        self._stopped = threading.Event()

    def pat(self) -> None:
        """Say that the work goes on."""
        self._unpatted = 0.0

    def start(self) -> None:
        self.pat()
        self._stopped.clear()
        threading.Thread(target=self._watch, name=f"{self.name}-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        pause = min(1, self.limit / 4)
        while not self._stopped.wait(pause):
            self._unpatted += pause
            if self._unpatted > self.limit:
                logger.critical("%s did nothing for %.0f s: it ends itself", self.name, self.limit)
                frame = sys._current_frames().get(threading.main_thread().ident or 0)
                logger.error("The main thread:\n%s", "".join(traceback.format_stack(frame)))
                os._exit(1)
