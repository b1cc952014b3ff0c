"""Schedules from the code alone; a file remembers what ran last."""

from pathlib import Path
from typing import Any

from celery import beat

from apps.pipeline import lock
from apps.pipeline.beat import Leader, declared_entries


class PersistentScheduler(Leader, beat.PersistentScheduler):
    """Celery's own scheduler, with the declared schedules as its entries."""

    _store: Any

    def new_lock(self) -> lock.Lock:
        return lock.for_file()

    def drop_declared(self) -> list[str]:
        """Remove what code declared from where it is remembered; say what, a line each."""
        path = Path(self.app.conf.beat_schedule_filename)
        files = sorted(path.parent.glob(f"{path.name}*"))  # up to three, as dbm likes
        for file in files:
            file.unlink()
        return [f"removed: {file}" for file in files]

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
