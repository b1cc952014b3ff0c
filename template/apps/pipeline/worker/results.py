"""Reads results of pool processes to their end when the connection to the broker is lost.

Celery then resets the event loop, and forgets the part of a result that it has read. It takes the
rest for a new result, waits for its end, and counts the process as busy for ever. Seen in celery
5.7.0 (not reported yet). Delete this module and its line in `application` once fixed.
"""

from typing import Any

from celery import bootsteps


class PartialResults(bootsteps.Step):
    """Finish reading before the event loop is reset."""

    requires = ("celery.worker.components:Hub",)

    def create(self, parent: Any) -> None:
        if parent.hub:
            self.parent, self.reset = parent, parent.hub.reset
            parent.hub.reset = self._finish_and_reset

    def _finish_and_reset(self) -> None:
        pool: Any = getattr(self.parent.pool, "_pool", None)
        handler: Any = getattr(pool, "_result_handler", None)
        for descriptor, process in [*getattr(handler, "fileno_to_outq", {}).items()]:
            handler._finish_partial_read(descriptor, process)
        self.reset()
