"""Schedules from the code alone; a file remembers what ran last."""

from typing import Any

from celery import beat

from apps.pipeline import lock
from apps.pipeline.beat import Leader, declared_entries


class PersistentScheduler(Leader, beat.PersistentScheduler):
    """Celery's own scheduler, with the declared schedules as its entries."""

    _store: Any

    def new_lock(self) -> lock.Lock:
        return lock.for_file()

    def setup_schedule(self) -> None:
        self.app.conf.beat_schedule.update(declared_entries())
        super().setup_schedule()

    def reserve(self, entry: Any) -> Any:
        taken = super().reserve(entry)
        self.sync()
        return taken

    def give_back(self, entry: Any) -> None:
        self.schedule[entry.name] = entry
        self.sync()

    def _forget(self) -> None:
        super()._forget()
        if self._store is not None:
            self._store.cache.clear()  # closing it would write what another Beat may have changed
            self._store.close()
            self._store = None
