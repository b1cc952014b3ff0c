"""A lock that keeps a process from forking while one of its threads works.

A fork copies the locks that other threads hold, and nobody releases the copies. A pool process that
needs one, for example the lock of a connection pool or of an import, waits for ever.
"""

import os
import threading
from typing import Any


class ForkLock:
    """Held by one thread while it works. A fork in another thread waits for it, up to a limit."""

    TIMEOUT = 5  # seconds that a fork waits; a broker that does not answer can keep a thread longer

    def __init__(self) -> None:
        self._lock, self._fork_holds = threading.Lock(), False
        os.register_at_fork(
            before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._reset
        )

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: Any) -> None:
        self._lock.release()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event without the lock, which the thread holds before and after."""
        self._lock.release()
        try:
            return event.wait(seconds)
        finally:
            self._lock.acquire()

    def _before(self) -> None:
        self._fork_holds = self._lock.acquire(timeout=self.TIMEOUT)

    def _after_in_parent(self) -> None:
        if self._fork_holds:
            self._fork_holds = False
            self._lock.release()

    def _reset(self) -> None:
        self._lock, self._fork_holds = threading.Lock(), False
