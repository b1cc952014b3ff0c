"""The scheduler that stores the last runs in a file. Its schedules are declared in code."""

from pathlib import Path
from typing import Any

from celery import beat

from apps.pipeline.beat import lock
from apps.pipeline.beat.leader import LeaderMixin, declared_entries


class PersistentScheduler(LeaderMixin, beat.PersistentScheduler):
    """Celery's own scheduler, with the declared schedules as its entries."""

    _store: Any

    def new_lock(self) -> lock.Lock:
        return lock.for_file()

    def drop_declared(self) -> list[str]:
        """Delete the store, which Beat writes again. Return a line for each file."""
        path = Path(self.app.conf.beat_schedule_filename)
        files = sorted(path.parent.glob(f"{path.name}*"))  # dbm creates up to three files
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
        # Celery counts a run as sent if the broker did not accept its message. Seen in celery 5.7.0
        # (not reported yet). Delete this once fixed.
        self.schedule[entry.name] = entry
        self.sync()

    def _discard_schedule(self) -> None:
        super()._discard_schedule()
        if self._store is not None:
            self._store.cache.clear()  # otherwise close() overwrites the changes of another Beat
            self._store.close()
            self._store = None
