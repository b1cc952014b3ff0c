"""Keeps the event loop from removing unknown writers.

In each tick Celery removes the pipe of each process to which nothing is written, also if it was
removed before. Each time costs a system call that fails. Seen in celery 5.7.0 (not reported yet).
Delete this module and its line in `application` once fixed.
"""

from typing import Any

from celery import bootsteps


class KnownWriters(bootsteps.Step):
    """Remove only what the event loop writes to."""

    requires = ("celery.worker.components:Hub",)

    def create(self, parent: Any) -> None:
        if parent.hub:
            self.hub, self.remove_writer = parent.hub, parent.hub.remove_writer
            parent.hub.remove_writer = self._remove_known

    def _remove_known(self, file: Any) -> None:
        if file in self.hub.writers or not isinstance(file, int):
            self.remove_writer(file)
