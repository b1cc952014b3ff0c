import contextlib
import gc
import logging
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
import redis
from celery import Celery
from celery.schedules import solar
from celery.signals import beat_init
from django.apps import apps
from django.db import OperationalError as DatabaseAwayError
from django.db import connection, router
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.tzcrontab import TzAwareCrontab
from kombu.exceptions import OperationalError
from pytest_django import Settings

from apps.pipeline.beat import leader
from apps.pipeline.beat.file import PersistentScheduler
from apps.pipeline.beat.leader import LeaderMixin
from apps.pipeline.beat.once import Once
from apps.pipeline.beat.shutdown import Shutdown
from apps.pipeline.liveness import heartbeat
from apps.pipeline.schedules import Crontab, Schedule, Solar

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)

WAIT_TIMEOUT = 60  # seconds

IN_THE_DATABASE = apps.is_installed("django_celery_beat")


class FakeLock:
    """A lock that a test sets as held or free."""

    def __init__(self) -> None:
        self.is_held = True
        self.released = 0

    def hold(self) -> bool:
        return self.is_held

    def release(self) -> None:
        self.released += 1


class FakeProducer(list[str]):
    """A fake producer that records the names of sent tasks."""

    down = False
    attempts = 0

    def send_task(self, name: str, *args: Any, **options: Any) -> None:
        self.attempts += 1
        if self.down:
            raise OperationalError("redis://broker did not accept it")
        self.append(name)


@pytest.fixture(autouse=True)
def runtime(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNTIME_DIR = tmp_path
    return tmp_path


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("beats", broker="memory://", set_as_current=False)
    app.conf.update(beat_sync_every=1, beat_max_loop_interval=5, result_backend="cache+memory://")
    yield app
    app.close()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> FakeLock:
    lock = FakeLock()
    monkeypatch.setattr("apps.pipeline.beat.lock.for_file", lambda: lock)
    monkeypatch.setattr("apps.pipeline.beat.lock.for_database", lambda: lock)
    return lock


@pytest.fixture
def sent(app: Celery, monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    sent = FakeProducer()
    monkeypatch.setattr(app, "send_task", sent.send_task)
    return sent


class Clock:
    """The time that a scheduler, its entries and `Once` read."""

    def __init__(self) -> None:
        self.time = NOON


@pytest.fixture
def clock(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(app, "now", lambda: clock.time)
    monkeypatch.setattr(Once, "now", lambda _: clock.time)
    return clock


def tick(scheduler: Any) -> None:
    """Tick often enough to send a due task, and to send it again if it is still due."""
    for _ in range(3):
        scheduler.tick()


def in_memory(monkeypatch: pytest.MonkeyPatch, *declarations: Schedule) -> None:
    declared = {one.name: one for one in declarations}
    monkeypatch.setattr("apps.pipeline.schedules.declared", lambda: declared)


def every_hour() -> Schedule:
    return Schedule(name="Knead", task="bakery.knead", when=timedelta(hours=1))


def open_in_an_hour() -> Schedule:
    return Schedule(name="Open", task="bakery.open", when=NOON + timedelta(hours=1))


def at_noon() -> Schedule:
    return Schedule(name="Ring", task="bakery.ring", when=Crontab(minute="0", hour="12"))


class TestLeader:
    """Tests of LeaderMixin with the file scheduler, which needs no server."""

    @pytest.fixture
    def scheduler(
        self,
        app: Celery,
        lock: FakeLock,
        sent: FakeProducer,
        runtime: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[PersistentScheduler]:
        in_memory(monkeypatch, every_hour())
        scheduler = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
        yield scheduler
        scheduler.close()

    def make_due(self, scheduler: PersistentScheduler) -> None:
        scheduler.tick()
        scheduler.schedule["Knead"].last_run_at = scheduler.app.now() - timedelta(hours=2)
        scheduler._heap = None

    def test_the_leader_sends_each_due_task_once(
        self, scheduler: PersistentScheduler, sent: FakeProducer
    ) -> None:
        self.make_due(scheduler)
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]

    def test_the_declared_schedules_can_be_removed_from_the_store(
        self, scheduler: PersistentScheduler, app: Celery, runtime: Path
    ) -> None:
        scheduler.tick()
        scheduler.close()
        app.conf.beat_schedule_filename = str(runtime / "schedule")
        lines = PersistentScheduler(app, lazy=True).drop_declared()
        assert lines
        assert all(line.startswith(f"removed: {runtime}") for line in lines)
        assert not list(runtime.glob("schedule*"))

    def test_a_standby_does_not_send_tasks_or_open_the_store(
        self, scheduler: PersistentScheduler, lock: FakeLock, sent: FakeProducer, runtime: Path
    ) -> None:
        lock.is_held = False
        assert scheduler.tick() == leader.RETRY_INTERVAL
        scheduler.sync()
        assert sent == []
        assert not list(runtime.glob("schedule*"))
        assert heartbeat.age("beat") is not None

    def test_a_new_leader_reads_the_last_runs_of_the_former_leader(
        self,
        scheduler: PersistentScheduler,
        lock: FakeLock,
        sent: FakeProducer,
        app: Celery,
        runtime: Path,
    ) -> None:
        self.make_due(scheduler)
        scheduler.tick()
        lock.is_held = False
        scheduler.tick()
        lock.is_held = True
        other = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
        for _ in range(3):
            other.tick()
        other.close()
        assert sent == ["bakery.knead"]

    def test_a_beat_that_lost_the_lock_does_not_send(
        self, scheduler: PersistentScheduler, lock: FakeLock, sent: FakeProducer
    ) -> None:
        self.make_due(scheduler)
        lock.is_held = False
        scheduler.tick()
        assert sent == []
        assert scheduler._store is None

    def test_a_task_that_the_broker_did_not_accept_is_sent_later(
        self, scheduler: PersistentScheduler, lock: FakeLock, sent: FakeProducer
    ) -> None:
        self.make_due(scheduler)
        heartbeat.delete("beat")
        sent.down = True
        assert scheduler.tick() == leader.RETRY_INTERVAL
        assert heartbeat.age("beat") is None
        assert lock.released == 1
        sent.down = False
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]
        assert heartbeat.age("beat") is not None

    def test_an_outage_is_logged_in_one_line_and_not_at_each_tick(
        self, scheduler: PersistentScheduler, sent: FakeProducer, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.make_due(scheduler)
        sent.down = True
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                scheduler.tick()
        logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        reason = "redis://broker did not accept it"
        assert logged == [f"Beat sends no tasks, and tries again every second: {reason}"]

    def test_the_lock_is_confirmed_in_time_with_any_loop_interval(
        self, scheduler: PersistentScheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_memory(monkeypatch)
        scheduler.max_interval = 300
        scheduler.app.conf.beat_schedule = {}
        assert scheduler.tick() <= leader.CONFIRM_INTERVAL

    @pytest.mark.parametrize("restarted", [False, True])
    def test_tasks_are_sent_after_a_clock_that_was_ahead_is_corrected(
        self,
        scheduler: PersistentScheduler,
        sent: FakeProducer,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        restarted: bool,
    ) -> None:
        ahead = SimpleNamespace(
            time=lambda: clock.time.timestamp(), monotonic=lambda: NOON.timestamp()
        )
        monkeypatch.setattr("apps.pipeline.beat.clock.time", ahead)
        monkeypatch.setattr(Celery, "now", lambda _: clock.time)  # of an entry from the store, too
        clock.time = NOON + timedelta(days=1)
        self.make_due(scheduler)
        tick(scheduler)
        clock.time = NOON
        if restarted:
            scheduler._discard_schedule()
        tick(scheduler)
        assert sent == ["bakery.knead"]
        clock.time = NOON + timedelta(hours=1)
        tick(scheduler)
        assert sent == ["bakery.knead"] * 2

    def test_a_crontab_is_not_sent_again_when_the_clock_is_set_back_by_minutes(
        self,
        scheduler: PersistentScheduler,
        sent: FakeProducer,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        in_memory(monkeypatch, at_noon())
        monkeypatch.setattr(Celery, "now", lambda _: clock.time)  # of an entry from the store, too
        clock.time = NOON - timedelta(minutes=10)
        tick(scheduler)
        for minutes in (1, -3, 1):
            clock.time = NOON + timedelta(minutes=minutes)
            scheduler._heap = None
            tick(scheduler)
            assert sent == ["bakery.ring"]
        clock.time = NOON + timedelta(days=1)
        tick(scheduler)
        assert sent == ["bakery.ring"] * 2

    @pytest.mark.parametrize(
        ("name", "seconds", "is_corrected"),
        [("Knead", 4, False), ("Knead", 6, True), ("Ring", 299, False), ("Ring", 301, True)],
    )
    def test_a_crontab_may_have_run_five_minutes_ahead_and_an_interval_five_seconds(
        self,
        scheduler: PersistentScheduler,
        sent: FakeProducer,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        seconds: int,
        is_corrected: bool,
    ) -> None:
        in_memory(monkeypatch, every_hour(), at_noon())
        tick(scheduler)
        ahead = NOON + timedelta(seconds=seconds)
        scheduler.schedule[name].last_run_at = ahead
        scheduler._heap = None
        tick(scheduler)
        assert scheduler.schedule[name].last_run_at == (NOON if is_corrected else ahead)

    def test_close_releases_the_lock_and_removes_the_heartbeat(
        self, scheduler: PersistentScheduler, lock: FakeLock
    ) -> None:
        scheduler.tick()
        scheduler.close()
        assert lock.released == 1
        assert heartbeat.age("beat") is None

    def test_the_lazy_scheduler_of_the_banner_does_nothing(
        self, app: Celery, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LeaderMixin, "new_lock", lambda *_: pytest.fail("took a lock"))
        PersistentScheduler(app, schedule_filename=str(runtime / "schedule"), lazy=True)
        assert not list(runtime.iterdir())


class TestOnce:
    def test_it_is_due_at_its_time_and_later(self) -> None:
        once = Once(NOON, nowfun=lambda: NOON - timedelta(seconds=7))
        assert once.is_due(NOON - timedelta(days=1)) == (False, 7)
        once = Once(NOON, nowfun=lambda: NOON + timedelta(hours=1))
        assert once.is_due(NOON - timedelta(days=1)).is_due

    def test_it_is_not_due_again(self) -> None:
        once = Once(NOON, nowfun=lambda: NOON + timedelta(hours=1))
        assert not once.is_due(NOON + timedelta(seconds=1)).is_due

    def test_it_can_be_stored_in_the_schedule_file(self) -> None:
        assert pickle.loads(pickle.dumps(Once(NOON))) == Once(NOON)  # noqa: S301

    def test_it_runs_once_even_if_beat_restarts(
        self,
        app: Celery,
        lock: FakeLock,
        sent: FakeProducer,
        clock: Clock,
        runtime: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        in_memory(monkeypatch, open_in_an_hour())
        for expected in ([], ["bakery.open"], ["bakery.open"]):
            scheduler = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
            tick(scheduler)
            scheduler.close()
            assert sent == expected
            clock.time += timedelta(hours=1)


@pytest.mark.skipif(not IN_THE_DATABASE, reason="the schedule is not in the database")
@pytest.mark.django_db(transaction=True)
class TestDatabaseScheduler:
    @pytest.fixture
    def make(self, app: Celery, lock: FakeLock, sent: FakeProducer) -> Iterator[Any]:
        from django_celery_beat.models import IntervalSchedule, PeriodicTask

        from apps.pipeline.beat.database import DatabaseScheduler

        hour = IntervalSchedule.objects.create(every=1, period="hours")
        due = timezone.now() - timedelta(hours=2)
        PeriodicTask.objects.create(
            name="Knead", task="bakery.knead", interval=hour, last_run_at=due
        )
        made: list[Any] = []

        def make() -> Any:
            made.append(DatabaseScheduler(app))
            return made[-1]

        yield make
        for scheduler in made:
            scheduler.close()

    def row(self) -> Any:
        from django_celery_beat.models import PeriodicTask

        return PeriodicTask.objects.get(name="Knead")

    def test_even_two_leaders_send_a_due_time_once(self, make: Any, sent: FakeProducer) -> None:
        first, second = make(), make()
        for scheduler in (first, second):
            scheduler._lead()
        for _ in range(3):
            first.tick()
            second.tick()
        assert sent == ["bakery.knead"]
        assert self.row().total_run_count == 1

    def test_a_run_is_saved_before_the_task_is_sent(
        self, make: Any, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts: list[int] = []
        monkeypatch.setattr(
            app, "send_task", lambda *_, **__: counts.append(self.row().total_run_count)
        )
        scheduler = make()
        for _ in range(3):
            scheduler.tick()
        assert counts == [1]

    def test_a_run_that_the_broker_did_not_accept_is_undone(
        self, make: Any, sent: FakeProducer
    ) -> None:
        before = self.row()
        sent.down = True
        make().tick()
        after = self.row()
        assert (after.last_run_at, after.total_run_count) == (before.last_run_at, 0)

    def test_a_crontab_that_several_rows_have_is_parsed_once(self, make: Any) -> None:
        from celery.schedules import crontab_parser
        from django_celery_beat.models import CrontabSchedule, PeriodicTask

        make().all_as_schedule()  # parses those of the project
        when = CrontabSchedule.objects.create(minute="7-19/3", hour="5-11", day_of_week="tue")
        for name in ("Bake", "Sell"):
            PeriodicTask.objects.create(name=name, task="bakery.bake", crontab=when)
        real = crontab_parser.parse
        with patch.object(crontab_parser, "parse", autospec=True, side_effect=real) as parse:
            schedule = make().all_as_schedule()
        assert schedule["Bake"].schedule.hour is schedule["Sell"].schedule.hour
        assert schedule["Sell"].schedule.hour == set(range(5, 12))
        assert 0 < parse.call_count <= 5

    def test_a_row_that_ran_once_is_disabled_soon(self, make: Any, sent: FakeProducer) -> None:
        from django_celery_beat.models import ClockedSchedule

        now = ClockedSchedule.objects.create(clocked_time=timezone.now())
        rows = type(self.row()).objects
        rows.update(interval=None, clocked=now, one_off=True)
        scheduler = make()
        deadline = time.monotonic() + 60
        while "bakery.knead" not in sent and time.monotonic() < deadline:
            time.sleep(min(max(scheduler.tick(), 0), 0.2))
        deadline = time.monotonic() + WAIT_TIMEOUT
        while self.row().enabled and time.monotonic() < deadline:
            time.sleep(min(max(scheduler.tick(), 0), 0.2))
        assert not self.row().enabled
        assert sent.count("bakery.knead") == 1

    def test_a_row_that_was_just_disabled_is_not_sent(self, make: Any, sent: FakeProducer) -> None:
        scheduler = make()
        scheduler._lead()
        type(self.row()).objects.update(enabled=False)
        for _ in range(3):
            scheduler.tick()
        assert sent == []

    def test_a_late_crontab_is_sent_at_once(self, make: Any, sent: FakeProducer) -> None:
        from django_celery_beat.models import CrontabSchedule, PeriodicTask

        now = timezone.now()
        late = CrontabSchedule.objects.create(
            minute="0", hour=str((now.hour - 6) % 24), timezone="UTC"
        )
        yesterday = now - timedelta(days=1)
        PeriodicTask.objects.create(
            name="Bake", task="bakery.bake", crontab=late, last_run_at=yesterday
        )
        scheduler = make()
        for _ in range(4):
            scheduler.tick()
        assert sorted(sent) == ["bakery.bake", "bakery.knead"]

    @pytest.mark.parametrize("broken", [{"headers": "[1]"}, {"args": "[", "headers": "{"}])
    def test_a_row_that_is_not_valid_does_not_affect_others(
        self,
        make: Any,
        sent: FakeProducer,
        broken: dict[str, str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        from django_celery_beat.models import PeriodicTask

        PeriodicTask.objects.create(
            name="Odd", task="bakery.odd", interval=self.row().interval, **broken
        )
        scheduler = make()
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]
        assert "Skipping schedule 'Odd': " in caplog.text

    def test_there_is_no_heartbeat_while_the_database_does_not_answer(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = make()
        scheduler.tick()
        heartbeat.delete("beat")

        def fail() -> None:
            raise DatabaseAwayError("connection refused\nIs the server running?")

        with monkeypatch.context() as down:
            down.setattr(scheduler.Changes, "last_change", fail)
            down.setattr(scheduler, "_confirmed_at", 0)  # a second later
            assert scheduler.tick() == leader.RETRY_INTERVAL
            assert heartbeat.age("beat") is None
        scheduler.tick()
        assert heartbeat.age("beat") is not None

    def read(self, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Tick as a second later. Return the names of the rows from which an entry was made."""
        names: list[str] = []
        make = scheduler.Entry

        def entry(row: Any, app: Any = None) -> Any:
            names.append(row.name)
            return make(row, app=app)

        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "Entry", entry)
            scheduler._confirmed_at = 0
            scheduler.tick()
        return names

    @pytest.fixture
    def leading(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A leader that has read all rows, long after they were saved."""
        from django_celery_beat.models import PeriodicTask

        from apps.pipeline.beat import database

        monkeypatch.setattr(database, "NOTE_DELAY", timedelta(seconds=WAIT_TIMEOUT))
        hour = self.row().interval
        for name in ("Bake", "Sell"):
            PeriodicTask.objects.create(name=name, task=f"bakery.{name.lower()}", interval=hour)
        now = timezone.now()
        PeriodicTask.objects.update(last_run_at=now)
        scheduler = make()
        scheduler.tick()
        PeriodicTask.objects.update(last_run_at=now, date_changed=now - timedelta(hours=1))
        scheduler._initial_read, scheduler._heap = True, None
        scheduler.tick()
        scheduler._changed_at = scheduler.Changes.last_change()
        return scheduler

    def test_only_a_row_that_was_saved_is_read_again(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch, sent: FakeProducer
    ) -> None:
        assert self.read(leading, monkeypatch) == []
        row = self.row()
        row.name, row.args, row.task = "Knead more", "[1]", "bakery.more"
        row.last_run_at = timezone.now() - timedelta(hours=2)
        row.save()
        assert "Bake" not in self.read(leading, monkeypatch)
        assert set(leading.schedule) >= {"Knead more", "Bake", "Sell"}
        assert "Knead" not in leading.schedule
        leading.tick()
        assert sent == ["bakery.more"]
        assert len(leading._heap) == len(leading.schedule)

    def test_a_row_that_was_disabled_is_no_longer_known(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.row()
        row.enabled = False
        row.save()
        assert "Bake" not in self.read(leading, monkeypatch)
        assert "Knead" not in leading.schedule
        assert "Knead" not in [event[2].name for event in leading._heap]

    @pytest.mark.parametrize("change", ["update", "delete", "save of a time"])
    def test_all_rows_are_read_if_no_saved_row_explains_the_change(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        row = self.row()
        match change:
            case "update":
                type(row).objects.filter(pk=row.pk).update(args="[2]")
                leading.Changes.update_changed()
            case "delete":
                row.delete()
            case "save of a time":
                row.interval.every = 2
                row.interval.save()
        assert set(self.read(leading, monkeypatch)) >= {"Bake", "Sell"}
        match change:
            case "update":
                assert leading.schedule["Knead"].args == [2]
            case "delete":
                assert "Knead" not in leading.schedule
            case "save of a time":
                assert leading.schedule["Knead"].schedule.run_every == timedelta(hours=2)

    def test_all_rows_are_read_some_minutes_after_some_rows(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.row().save()
        assert "Bake" not in self.read(leading, monkeypatch)
        assert self.read(leading, monkeypatch) == []
        leading._compared_at -= 300
        assert set(self.read(leading, monkeypatch)) >= {"Bake", "Sell"}
        assert self.read(leading, monkeypatch) == []

    def test_a_row_that_was_written_without_save_is_noticed_some_minutes_later(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.row()
        row.pk, row.name = None, "Mix"
        type(row).objects.bulk_create([row])
        assert self.read(leading, monkeypatch) == []
        leading._compared_at -= 300
        assert "Mix" in self.read(leading, monkeypatch)
        leading._compared_at -= 300
        assert self.read(leading, monkeypatch) == []

    def test_a_column_that_was_written_without_save_is_noticed_some_minutes_later(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type(self.row()).objects.filter(name="Knead").update(task="bakery.fold")
        assert self.read(leading, monkeypatch) == []
        leading._compared_at -= 300
        assert set(self.read(leading, monkeypatch)) >= {"Bake", "Knead", "Sell"}
        assert leading.schedule["Knead"].task == "bakery.fold"
        leading._compared_at -= 300
        assert self.read(leading, monkeypatch) == []

    def test_its_own_runs_are_no_changes(
        self, leading: Any, sent: FakeProducer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leading.schedule["Knead"].last_run_at -= timedelta(hours=2)
        leading._heap = None
        tick(leading)
        assert sent == ["bakery.knead"]
        assert self.row().total_run_count == 1
        leading._compared_at -= 300
        assert self.read(leading, monkeypatch) == []

    def test_nothing_is_sent_again_when_a_clock_is_set_back(
        self, make: Any, sent: FakeProducer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = make()
        tick(scheduler)
        ahead = SimpleNamespace(time=lambda: 0, monotonic=time.monotonic)
        monkeypatch.setattr("apps.pipeline.beat.clock.time", ahead)
        tick(scheduler)
        assert sent == ["bakery.knead"]
        assert self.row().total_run_count == 1

    def test_a_replica_is_not_read(
        self, make: Any, sent: FakeProducer, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.DATABASE_ROUTERS = [SimpleNamespace(db_for_read=lambda *_, **__: "replica")]
        monkeypatch.setitem(vars(router), "db_for_read", None)
        beat_init.send(sender=Mock(scheduler=None))
        tick(make())
        assert sent == ["bakery.knead"]

    def test_a_last_run_in_the_future_is_corrected_in_its_row(self, make: Any) -> None:
        later = timezone.now() + timedelta(hours=8)
        type(self.row()).objects.update(last_run_at=later)
        tick(make())
        assert self.row().last_run_at < timezone.now()

    @pytest.mark.parametrize(("minutes", "crontab_too"), [(3, False), (6, True)])
    def test_a_crontab_that_ran_minutes_ahead_keeps_its_last_run_in_its_row(
        self, make: Any, minutes: int, crontab_too: bool
    ) -> None:
        from django_celery_beat.models import CrontabSchedule, PeriodicTask

        later = timezone.now() + timedelta(minutes=minutes)
        yearly = CrontabSchedule.objects.create(minute="0", hour="0", month_of_year="1")
        ring = PeriodicTask.objects.create(name="Ring", task="bakery.ring", crontab=yearly)
        PeriodicTask.objects.update(last_run_at=later)
        tick(make())
        ring.refresh_from_db()
        assert self.row().last_run_at < later - timedelta(minutes=1)
        assert (ring.last_run_at != later) == crontab_too

    def test_a_scheduler_that_is_no_longer_used_is_deleted(self, app: Celery, lock: Any) -> None:
        """The page makes one to look who leads."""
        from apps.pipeline.beat.database import DatabaseScheduler

        scheduler = weakref.ref(DatabaseScheduler(app, lazy=True))
        gc.collect()
        assert scheduler() is None

    def test_a_change_by_a_machine_whose_clock_is_late_is_noticed(
        self, leading: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = timezone.now() - timedelta(minutes=10)
        leading.Changes.objects.update(last_update=before)
        type(self.row()).objects.filter(name="Knead").update(args="[3]", date_changed=before)
        assert "Bake" not in self.read(leading, monkeypatch)
        assert leading.schedule["Knead"].args == [3]

    @pytest.mark.parametrize("loses", [False, True])
    def test_the_lock_is_confirmed_while_many_rows_are_read(
        self,
        make: Any,
        lock: FakeLock,
        sent: FakeProducer,
        monkeypatch: pytest.MonkeyPatch,
        *,
        loses: bool,
    ) -> None:
        held: list[bool] = []

        def hold() -> bool:
            held.append(not (loses and held))
            return held[-1]

        monkeypatch.setattr(lock, "hold", hold)
        monkeypatch.setattr("apps.pipeline.beat.leader.CONFIRM_INTERVAL", -1)  # at each row
        scheduler = make()
        scheduler.tick()
        if loses:
            assert (held, sent) == ([True, False], [])
        else:  # at the start of the tick, when a row is read, and when it gets its place
            assert len(held) > 2 * len(scheduler.schedule)

    def test_many_due_rows_take_one_query_each(
        self, leading: Any, sent: FakeProducer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.pipeline.beat.database.RETRY_INTERVAL", WAIT_TIMEOUT)
        type(self.row()).objects.update(last_run_at=timezone.now() - timedelta(hours=2))
        leading._initial_read, leading._heap = True, None
        leading.tick()
        with CaptureQueriesContext(connection) as queries:
            while leading.tick() == 0:
                leading._confirmed_at = time.monotonic()
        assert len(queries) == len(sent) - 1

    def test_without_tables_the_log_says_to_run_migrate(
        self, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        scheduler = make()

        def fail() -> None:
            raise DatabaseAwayError("no such table")

        monkeypatch.setattr(scheduler.Changes, "last_change", fail)
        monkeypatch.setattr(connection.introspection, "table_names", list)
        with caplog.at_level(logging.WARNING):
            scheduler.tick()
        assert caplog.messages == [
            "Beat sends no tasks, and tries again every second: "
            "the database has no tables for schedules yet. Run: python manage.py migrate"
        ]


class TestRedBeat:
    @pytest.fixture
    def redbeat(self) -> Any:
        return pytest.importorskip(
            "apps.pipeline.beat.redbeat", reason="this project does not use redbeat"
        )

    @pytest.fixture
    def app(self, broker_url: str) -> Iterator[Celery]:
        url = broker_url.removesuffix("/0") + "/8"
        app = Celery("beats", broker=url, set_as_current=False)
        app.conf.update(
            beat_max_loop_interval=5, redbeat_redis_url=url, redbeat_redis_options={"retry": None}
        )
        yield app
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        app.close()

    @pytest.fixture
    def make(
        self, redbeat: Any, app: Celery, sent: FakeProducer, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Any]:
        made: list[Any] = []

        def make(*declarations: Schedule) -> Any:
            in_memory(monkeypatch, *declarations)
            made.append(redbeat.RedBeatScheduler(app))
            return made[-1]

        yield make
        for scheduler in made:
            scheduler.close()

    @pytest.fixture
    def clock(self, redbeat: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
        for name in ("default_now", "_default_now"):
            monkeypatch.setattr(redbeat.Entry, name, lambda _: clock.time)
        return clock

    @pytest.mark.parametrize(
        "when",
        [
            Crontab(hour="3", time_zone="Asia/Tokyo"),
            Solar(event="sunset", latitude=52.5, longitude=13.4),
            NOON,
        ],
        ids=["crontab with a time zone", "sun", "one-off"],
    )
    def test_redis_stores_each_kind_of_schedule(
        self, redbeat: Any, make: Any, app: Celery, when: Any
    ) -> None:
        if isinstance(when, Solar):
            pytest.importorskip("ephem", reason="Celery computes the sun with the package ephem")
        make(Schedule(name="Open", task="bakery.open", when=when)).tick()
        entry = redbeat.Entry.from_key(redbeat.Entry.generate_key(app, "Open"), app=app)
        declared = leader.declared_entries()["Open"]["schedule"]
        assert type(entry.schedule) is type(declared)
        assert entry.schedule == declared
        assert isinstance(declared, TzAwareCrontab | solar | Once)

    def test_only_declared_entries_are_removed(self, redbeat: Any, make: Any, app: Celery) -> None:
        make(every_hour()).tick()
        redbeat.Entry("By hand", "bakery.open", timedelta(minutes=30), app=app).save()
        keys = {name: redbeat.Entry.generate_key(app, name) for name in ("Knead", "By hand")}
        stored = redbeat.RedBeatScheduler(app, lazy=True).stored()
        assert {entry.name for entry in stored} >= {"Knead", "By hand"}
        dropped = redbeat.RedBeatScheduler(app, lazy=True)
        assert dropped.drop_declared() == ["removed: Knead"]
        assert dropped.drop_declared() == []
        assert redbeat.Entry.from_key(keys["By hand"], app=app).name == "By hand"
        with pytest.raises(KeyError):
            redbeat.Entry.from_key(keys["Knead"], app=app)

    def test_a_schedule_that_runs_once_is_not_repeated_after_restarts(
        self, make: Any, sent: FakeProducer, clock: Clock
    ) -> None:
        for expected in ([], ["bakery.open"], ["bakery.open"]):
            scheduler = make(open_in_an_hour())
            tick(scheduler)
            scheduler.close()
            assert sent == expected
            clock.time += timedelta(hours=1)

    @pytest.mark.parametrize("restarted", [False, True])
    def test_tasks_are_sent_after_a_clock_that_was_ahead_is_corrected(
        self,
        make: Any,
        app: Celery,
        sent: FakeProducer,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        restarted: bool,
    ) -> None:
        ahead = SimpleNamespace(
            time=lambda: clock.time.timestamp(), monotonic=lambda: NOON.timestamp()
        )
        monkeypatch.setattr("apps.pipeline.beat.clock.time", ahead)
        app.conf.result_expires = None  # otherwise Celery adds a schedule
        declarations = every_hour(), open_in_an_hour()
        scheduler = make(*declarations)
        tick(scheduler)
        clock.time = NOON + timedelta(days=1)
        tick(scheduler)
        assert sorted(sent) == ["bakery.knead", "bakery.open"]
        clock.time = NOON
        if restarted:
            scheduler.close()
            scheduler = make(*declarations)
        tick(scheduler)
        clock.time = NOON + timedelta(hours=1)
        tick(scheduler)
        assert sorted(sent) == ["bakery.knead", "bakery.knead", "bakery.open"]

    def test_the_lock_is_confirmed_while_entries_are_read_and_one_that_is_not_valid_is_skipped(
        self, redbeat: Any, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = make(every_hour())
        hold = Mock(wraps=scheduler._lock.hold)
        client, gone = scheduler._lock._lock.redis, [f"redbeat:{number}" for number in range(9)]
        client.zadd("redbeat::schedule", dict.fromkeys(gone, 4_000_000_000))
        client.hset(gone[0], "definition", "not valid")
        monkeypatch.setattr(redbeat, "BATCH", 1)
        monkeypatch.setattr("apps.pipeline.beat.leader.CONFIRM_INTERVAL", -1)
        monkeypatch.setattr(scheduler._lock, "hold", hold)
        scheduler.tick()
        assert hold.call_count > len(gone) + 3  # and at other times
        assert "Knead" in [entry.name for entry in scheduler.stored()]

    def test_a_run_that_the_broker_did_not_accept_is_undone(
        self, make: Any, sent: FakeProducer, clock: Clock
    ) -> None:
        scheduler = make(open_in_an_hour())
        tick(scheduler)
        clock.time += timedelta(hours=1)
        sent.down = True
        tick(scheduler)
        assert sent == []
        sent.down = False
        tick(scheduler)
        assert sent == ["bakery.open"]

    def test_a_tick_ends_if_the_broker_does_not_accept_a_task(
        self, make: Any, sent: FakeProducer, clock: Clock
    ) -> None:
        clock.time -= timedelta(hours=1)
        scheduler = make(*(Schedule(name=name, task=name, when=NOON) for name in "abc"))
        tick(scheduler)
        clock.time += timedelta(hours=1)
        sent.down = True
        scheduler.tick()
        assert sent.attempts == 1
        sent.down = False
        tick(scheduler)
        assert sorted(sent) == ["a", "b", "c"]

    def test_the_last_run_is_correct_in_the_repeated_hour(self, redbeat: Any, app: Celery) -> None:
        entry = redbeat.Entry("Open", "bakery.open", timedelta(minutes=30), app=app)
        app.conf.update(timezone="Europe/Berlin")
        assert entry.default_now().tzinfo is UTC

    def test_one_of_two_holds_the_lock_until_it_stops(self, make: Any) -> None:
        first, second = make(), make()
        assert first._lead()
        assert not second._lead()
        assert first._lead()
        first.close()
        assert second._lead()


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_TIMEOUT)


HANGS = """
import logging, time
from apps.pipeline.liveness.watchdog import Watchdog
logging.basicConfig()
watchdog = Watchdog("beat", limit=2)
watchdog.start()
for _ in range(24):
    time.sleep(0.1)
    watchdog.reset()
print("alive", flush=True)
time.sleep(600)
"""


def test_the_watchdog_ends_a_process_that_hangs_and_logs_its_stack() -> None:
    done = run(HANGS)
    assert done.returncode == 1
    assert done.stdout == "alive\n"
    assert "CRITICAL:apps.pipeline.liveness.watchdog:beat hung for 2 s" in done.stderr
    assert "in <module>" in done.stderr


HANGS_IN_THE_LOG = """
import logging, time
from apps.pipeline.liveness import watchdog
logging.basicConfig()
watchdog.LOG_TIME = 0.1
watchdog.Watchdog("beat", limit=0.2).start()
with logging.getLogger().handlers[0].lock:
    time.sleep(600)
"""


def test_the_watchdog_ends_a_process_that_hangs_in_the_log() -> None:
    assert run(HANGS_IN_THE_LOG).returncode == 1


STOPPED = """
import os, signal, sys
from datetime import timedelta
from celery import Celery
from celery.apps.beat import Beat
from celery.signals import before_task_publish
from django.conf import settings
settings.configure(RUNTIME_DIR=__import__("pathlib").Path(sys.argv[1]), TASK_OUTBOX=False)
from apps.pipeline.beat import file

class FakeLock:
    def hold(self): return True
    def release(self): print("released", flush=True)

class Sentinel:
    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)

class Scheduler(file.PersistentScheduler):
    def new_lock(self): return FakeLock()
    def setup_schedule(self):
        file.declared_entries = dict
        super().setup_schedule()

@before_task_publish.connect
def stop(**kwargs):
    if sys.argv[2] == "publish":
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        Sentinel()

app = Celery(broker="memory://")
app.conf.worker_redirect_stdouts = False
app.conf.beat_schedule = {"Knead": {"task": "bakery.knead", "schedule": timedelta(seconds=0.1)}}
os.chdir(sys.argv[1])
try:
    Beat(app=app, scheduler_cls=Scheduler, quiet=True, schedule="schedule").run()
finally:
    with app.connection() as connection:
        print("sent", connection.SimpleQueue("celery").qsize(), flush=True)
"""


@pytest.mark.parametrize("moment", ["publish", "destructor"])
def test_beat_that_is_stopped_while_it_sends_a_task_sends_it_first(
    moment: str, tmp_path: Path
) -> None:
    done = run(STOPPED, str(tmp_path), moment)
    assert (done.returncode, done.stdout) == (0, "released\nsent 1\n"), done.stderr


class TestShutdown:
    def test_beat_that_sleeps_stops_at_once(self) -> None:
        with pytest.raises(SystemExit):
            Shutdown().handle(signal.SIGTERM, None)

    def test_a_second_signal_stops_a_tick_that_hangs(self) -> None:
        shutdown = Shutdown()
        with contextlib.suppress(SystemExit), shutdown.after_tick():
            shutdown.handle(signal.SIGTERM, None)
            with pytest.raises(SystemExit):
                shutdown.handle(signal.SIGINT, None)

    def test_a_signal_that_a_destructor_swallowed_ends_the_next_tick(self) -> None:
        shutdown = Shutdown()
        with contextlib.suppress(SystemExit):
            shutdown.handle(signal.SIGTERM, None)
        with pytest.raises(SystemExit), shutdown.after_tick():
            pytest.fail("It ticks.")
