"""One of several Beats is the leader: it holds the lock and sends the tasks that are due.

The leader records that it takes a due time, and then sends the task. A Beat that becomes the leader
later does not send the task again. If the leader is killed in the milliseconds between the two
steps, the task is not sent. If the broker does not accept the message, the leader undoes the record
and sends the task later. If the broker accepts the message but fails before it confirms this, the
task is sent twice. A lock cannot prevent this.
"""

import logging
import os
import time
from contextlib import suppress
from typing import Any

from celery.beat import SchedulingError
from django.conf import settings
from django_celery_beat.clockedschedule import clocked
from kombu.exceptions import OperationalError

from apps.pipeline.beat.clock import ClockMixin
from apps.pipeline.beat.lock import Lock
from apps.pipeline.beat.once import Once
from apps.pipeline.beat.shutdown import Shutdown
from apps.pipeline.liveness import heartbeat
from apps.pipeline.liveness.watchdog import Watchdog
from apps.pipeline.logs import ids
from apps.pipeline.outbox.direct import directly
from apps.pipeline.schedules import as_beat_schedule
from apps.pipeline.signals import entry_sent

logger = logging.getLogger(__name__)

# In seconds. An edit of a schedule has to take effect within 5 s.
RETRY_INTERVAL = 1  # after which a Beat that is not the leader tries again
CONFIRM_INTERVAL = 4  # after which the leader confirms its lock and looks for changes
WARNING_INTERVAL = 30  # after which the same warning is logged again


class TakenError(Exception):
    """This Beat must not send the entry: another Beat took it or leads, or it was removed."""


class LeaderMixin(ClockMixin):
    """Mixin for a scheduler: send tasks only while it holds the lock, and write a heartbeat.

    The heartbeat stops while broker, database or lock do not answer. With the libraries' schedulers
    two Beats send each run twice. Seen in django-celery-beat 2.9.0 (django-celery-beat #337, celery
    #1495). Once fixed, delete `_lead` and the locks, and keep the heartbeat.
    """

    # Raised by broker, database or lock when they do not answer.
    outage_errors: tuple[type[Exception], ...] = (OperationalError,)

    _heap: Any
    _confirmed_at = float("inf")  # a lazy scheduler has no lock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"lazy": True})
        self.leads: bool | None = None
        self.shutdown = Shutdown()
        self._send_error: Exception | None = None
        self._last_warning, self._watchdog = ("", 0.0), Watchdog("beat")
        if not kwargs.get("lazy"):  # Celery creates a lazy scheduler to print its banner
            self._lock, self._confirmed_at = self.new_lock(), 0.0
            self._watchdog.start()

    def new_lock(self) -> Lock:
        raise NotImplementedError

    def tick(self, *args: Any, **kwargs: Any) -> float:
        with self.shutdown.after_tick():
            return self._tick(*args, **kwargs)

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        self._watchdog.reset()
        try:
            delay: float = RETRY_INTERVAL
            if self._lead():
                delay = min(super().tick(*args, **kwargs), CONFIRM_INTERVAL)
                if self._send_error:
                    raise self._send_error
                if settings.TASK_OUTBOX and delay > 0 and self._relay():
                    delay = 0
        except TakenError:
            self._discard_schedule()
            return 0
        except self.outage_errors as error:
            self._warn(error)
            self._discard_schedule()
            self._lock.release()  # another Beat may still be able to connect
            return RETRY_INTERVAL
        heartbeat.write("beat")
        return delay

    def read_changes(self) -> None:
        """Read changes of the schedule. Raises one of `outage_errors` if that fails."""

    def explain(self, error: Exception) -> str:
        """The reason why Beat sends no tasks, and what to do about it."""
        return (str(error).splitlines() or [type(error).__name__])[0]

    def reserve(self, entry: Any) -> Any:
        """Record for all Beats that a due time is taken, before the task is sent."""
        self.producer  # noqa: B018 - connects, or raises an error before anything is recorded
        return super().reserve(entry)

    def give_back(self, entry: Any) -> None:
        """Undo `reserve`, because the task was not sent."""

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        # Celery counts a run as sent if the broker did not accept its message. Seen in celery 5.7.0
        # (not reported yet). Delete this and every `give_back` once fixed.
        try:
            with directly(), ids.holding(ids.schedule, entry.name):
                sent = super().apply_async(entry, *args, **kwargs)
            entry_sent.send(sender=self, entry=entry)
            return sent
        except SchedulingError as error:
            if not isinstance(error.__context__, OperationalError):
                raise  # an error of this entry: Celery logs it and continues
            self._send_error = error.__context__
            self.give_back(entry)
        except self.outage_errors as error:
            self._send_error = error  # raised by `reserve` with redbeat, or by `sync`

    def sync(self) -> None:
        if self.leads:
            super().sync()

    def close(self) -> None:
        self._watchdog.stop()
        try:
            if self.leads:
                super().close()
        finally:
            self.leads = None
            self._lock.release()
            heartbeat.delete("beat")

    def _lead(self) -> bool:
        held = self._lock.hold()
        if not held and self.leads is not False:
            logger.info("Another Beat leads: process %d stands by", os.getpid())
            self._discard_schedule()
            self.leads = False
        if held:
            self.read_changes()
        if held and not self.leads:
            self.producer  # noqa: B018 - connects to the broker
            self.setup_schedule()
            self.leads = True
            logger.info("Process %d leads: it sends due tasks", os.getpid())
        return held

    def _keep_lock(self) -> None:
        """Confirm the lock between two entries. Thousands of them take longer than its lease."""
        self._watchdog.reset()
        if time.monotonic() - self._confirmed_at > CONFIRM_INTERVAL:
            self._confirmed_at = time.monotonic()
            if not self._lock.hold():
                raise TakenError
            heartbeat.write("beat")

    def _relay(self) -> bool:
        """Send what is left in the outbox. Return whether there is more."""
        from apps.pipeline.outbox.relay import relay

        return relay(self.app)

    def _discard_schedule(self) -> None:
        """Discard the schedule and the connections, because another Beat may lead now."""
        self.leads = self._send_error = self._heap = self.old_schedulers = None
        self.__dict__.pop("producer", None)
        with suppress(Exception):
            self.__dict__.pop("connection").release()

    def _warn(self, error: Exception) -> None:
        reason, now = self.explain(error), time.monotonic()
        if reason != self._last_warning[0] or now > self._last_warning[1] + WARNING_INTERVAL:
            self._last_warning = (reason, now)
            logger.warning("Beat sends no tasks, and tries again every second: %s", reason)

    def _ensure_connected(self) -> Any:
        """Connect, with one retry. Celery would retry for ever while this Beat keeps the lock."""
        # Seen in celery 5.7.0 (not reported yet). Delete this once fixed.
        return self.connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


def declared_entries() -> dict[str, dict[str, Any]]:
    """The declared schedules, for schedulers that store only the last run of an entry."""
    entries = as_beat_schedule()
    for entry in entries.values():
        if isinstance(when := entry["schedule"], clocked):
            entry["schedule"] = Once(when.clocked_time)
    return entries
