"""The schedulers that Beat may run: the libraries' own, of which one at a time leads.

However many Beats run, one holds the lock and sends what is due; the others wait for the lock. A
due time is written down as taken, then sent. So whoever takes over never sends it again, and a Beat
that is killed in the milliseconds between the two leaves it out. When the broker refuses the
message, the due time is given back, and sent late. What no lock can prevent: a broker that took the
message and died before it said so gets it twice.
"""

import logging
import os
import time
from contextlib import suppress
from typing import Any

from celery.beat import Scheduler, SchedulingError
from django_celery_beat.clockedschedule import clocked
from kombu.exceptions import OperationalError

from apps.pipeline import heartbeat
from apps.pipeline.beat.once import Once
from apps.pipeline.lock import Lock
from apps.pipeline.schedules import as_beat_schedule
from apps.pipeline.watchdog import Watchdog

logger = logging.getLogger(__name__)

PAUSE = 1  # seconds until a Beat that cannot lead tries again
CONFIRM = 5  # seconds until a Beat that leads confirms its lock, at the latest
COMPLAIN = 30  # seconds until it says the same complaint again


class TakenError(Exception):
    """Another Beat has taken this due time, or the entry is gone."""


class Leader(Scheduler):
    """Mixed in before a scheduler: it works while it holds the lock, and leaves a heartbeat.

    The heartbeat stops while it cannot do its work, leading or not; it goes on by itself.
    """

    # What the places that it needs raise when they do not answer.
    away: tuple[type[Exception], ...] = (OperationalError,)

    _heap: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"lazy": True})
        self._leads: bool | None = None
        self._closed = False
        self._refused: Exception | None = None
        self._complaint = ("", 0.0)
        self._watchdog = Watchdog("beat")
        if not kwargs.get("lazy"):  # Celery makes a lazy one to print its banner
            self._lock = self.new_lock()
            self._watchdog.start()

    def new_lock(self) -> Lock:
        raise NotImplementedError

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if self._closed:
            raise SystemExit  # told to end, where Python swallowed it: in a destructor, say
        self._watchdog.pat()
        try:
            delay: float = PAUSE
            if self._lead():
                delay = min(super().tick(*args, **kwargs), CONFIRM)
                if self._refused:
                    raise self._refused
        except TakenError:
            self._forget()
            return 0
        except self.away as error:
            self._complain(error)
            self._step_down()
            return PAUSE
        heartbeat.beat("beat")
        return delay

    def verify(self) -> None:
        """Raise one of `away` when the schedule cannot be read or written."""

    def explain(self, error: Exception) -> str:
        """What the Beat waits for, and what to do about it."""
        return (str(error).splitlines() or [type(error).__name__])[0]

    def reserve(self, entry: Any) -> Any:
        """Take a due time, so that it counts for every Beat: what follows is the message."""
        self.producer  # noqa: B018 - a broker that is away is noticed before anything is taken
        return super().reserve(entry)

    def give_back(self, entry: Any) -> None:
        """Undo the taking of a due time that was not sent."""

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().apply_async(entry, *args, **kwargs)
        except SchedulingError as error:
            if not isinstance(error.__context__, OperationalError):
                raise  # the entry's own fault: Celery says so, and goes on with the others
            self._refused = error.__context__
            self.give_back(entry)
        except self.away as error:
            self._refused = error  # it could not be taken

    def sync(self) -> None:
        if self._leads:
            super().sync()

    def close(self) -> None:
        self._closed = True
        self._watchdog.stop()
        try:
            if self._leads:
                super().close()
        finally:
            self._leads = None
            self._lock.release()
            heartbeat.stop("beat")

    def _lead(self) -> bool:
        held = self._lock.hold()
        if not held and self._leads is not False:
            logger.info("Another Beat leads: process %d stands by", os.getpid())
            self._forget()
            self._leads = False
        if held:
            self.verify()
        if held and not self._leads:
            self.producer  # noqa: B018 - connects to the broker: without it there is nothing to lead
            self.setup_schedule()
            self._leads = True
            logger.info("Process %d leads: it sends what is due", os.getpid())
        return held

    def _step_down(self) -> None:
        """Let another Beat try, which may reach what this one cannot."""
        self._forget()
        self._lock.release()

    def _forget(self) -> None:
        """Drop what was read of the schedule: another Beat may change it from now on."""
        self._leads = None
        self._refused = None
        self._heap = None
        self.old_schedulers = None
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            with suppress(Exception):
                connection.release()

    def _complain(self, error: Exception) -> None:
        words, now = self.explain(error), time.monotonic()
        said, at = self._complaint
        if words != said or now - at > COMPLAIN:
            self._complaint = (words, now)
            logger.warning("Beat waits: %s", words)

    def _ensure_connected(self) -> Any:
        """Celery's own tries for ever, while a due time is taken and the lock is held."""
        return self.connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


def declared_entries() -> dict[str, dict[str, Any]]:
    """The declared schedules for schedulers that remember of a run only when it was."""
    entries = as_beat_schedule()
    for entry in entries.values():
        if isinstance(when := entry["schedule"], clocked):
            entry["schedule"] = Once(when.clocked_time)
    return entries
