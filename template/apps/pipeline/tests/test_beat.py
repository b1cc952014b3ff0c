import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.schedules import solar
from django.apps import apps
from django.db import OperationalError as DatabaseAwayError
from django.db import connection
from django.utils import timezone
from django_celery_beat.tzcrontab import TzAwareCrontab
from kombu.exceptions import OperationalError
from pytest_django import Settings

from apps.pipeline import beat, heartbeat
from apps.pipeline.beat import Leader
from apps.pipeline.beat.file import PersistentScheduler
from apps.pipeline.beat.once import Once
from apps.pipeline.schedules import Crontab, Schedule, Solar

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)

IN_THE_DATABASE = apps.is_installed("django_celery_beat")


class Turn:
    """A lock that a test gives and takes."""

    def __init__(self) -> None:
        self.mine = True
        self.released = 0

    def hold(self) -> bool:
        return self.mine

    def release(self) -> None:
        self.released += 1


class Sent(list[str]):
    """The names of the tasks that were sent, instead of a broker."""

    away = False

    def send_task(self, name: str, *args: Any, **options: Any) -> None:
        if self.away:
            raise OperationalError("redis://broker does not take it")
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
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    turn = Turn()
    monkeypatch.setattr("apps.pipeline.lock.for_file", lambda: turn)
    monkeypatch.setattr("apps.pipeline.lock.for_database", lambda: turn)
    return turn


@pytest.fixture
def sent(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()
    monkeypatch.setattr(app, "send_task", sent.send_task)
    return sent


def in_memory(monkeypatch: pytest.MonkeyPatch, *declarations: Schedule) -> None:
    declared = {one.name: one for one in declarations}
    monkeypatch.setattr("apps.pipeline.schedules.declared", lambda: declared)


def every_hour() -> Schedule:
    return Schedule(name="Knead", task="bakery.knead", when=timedelta(hours=1))


class TestLeader:
    """What all schedulers share, seen at the one that needs only a file."""

    @pytest.fixture
    def scheduler(
        self, app: Celery, turn: Turn, sent: Sent, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[PersistentScheduler]:
        in_memory(monkeypatch, every_hour())
        scheduler = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
        yield scheduler
        scheduler.close()

    def make_due(self, scheduler: PersistentScheduler) -> None:
        scheduler.tick()
        scheduler.schedule["Knead"].last_run_at = timezone.now() - timedelta(hours=2)
        scheduler._heap = None

    def test_a_leader_sends_what_is_due_once(
        self, scheduler: PersistentScheduler, sent: Sent
    ) -> None:
        self.make_due(scheduler)
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]

    def test_what_it_remembers_of_declared_schedules_can_be_dropped(
        self, scheduler: PersistentScheduler, app: Celery, runtime: Path
    ) -> None:
        scheduler.tick()
        scheduler.close()
        app.conf.beat_schedule_filename = str(runtime / "schedule")
        lines = PersistentScheduler(app, lazy=True).drop_declared()
        assert lines
        assert all(line.startswith(f"removed: {runtime}") for line in lines)
        assert not list(runtime.glob("schedule*"))

    def test_a_standby_sends_and_opens_nothing(
        self, scheduler: PersistentScheduler, turn: Turn, sent: Sent, runtime: Path
    ) -> None:
        turn.mine = False
        assert scheduler.tick() == beat.PAUSE
        scheduler.sync()
        assert sent == []
        assert not list(runtime.glob("schedule*"))
        assert heartbeat.age("beat") is not None

    def test_it_takes_over_what_the_leader_wrote_down(
        self, scheduler: PersistentScheduler, turn: Turn, sent: Sent, app: Celery, runtime: Path
    ) -> None:
        self.make_due(scheduler)
        scheduler.tick()
        turn.mine = False
        scheduler.tick()
        turn.mine = True
        other = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
        for _ in range(3):
            other.tick()
        other.close()
        assert sent == ["bakery.knead"]

    def test_one_that_lost_the_lead_sends_nothing(
        self, scheduler: PersistentScheduler, turn: Turn, sent: Sent
    ) -> None:
        self.make_due(scheduler)
        turn.mine = False
        scheduler.tick()
        assert sent == []
        assert scheduler._store is None

    def test_what_the_broker_refuses_is_sent_when_it_is_back(
        self, scheduler: PersistentScheduler, turn: Turn, sent: Sent
    ) -> None:
        self.make_due(scheduler)
        heartbeat.stop("beat")
        sent.away = True
        assert scheduler.tick() == beat.PAUSE
        assert heartbeat.age("beat") is None
        assert turn.released == 1
        sent.away = False
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]
        assert heartbeat.age("beat") is not None

    def test_it_complains_in_one_line_and_not_at_each_tick(
        self, scheduler: PersistentScheduler, sent: Sent, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.make_due(scheduler)
        sent.away = True
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                scheduler.tick()
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said == ["Beat waits: redis://broker does not take it"]

    def test_it_confirms_its_lock_in_time_whatever_the_longest_pause(
        self, scheduler: PersistentScheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_memory(monkeypatch)
        scheduler.max_interval = 300
        scheduler.app.conf.beat_schedule = {}
        assert scheduler.tick() <= beat.CONFIRM

    def test_a_clean_stop_releases_the_lock_and_says_so(
        self, scheduler: PersistentScheduler, turn: Turn
    ) -> None:
        scheduler.tick()
        scheduler.close()
        assert turn.released == 1
        assert heartbeat.age("beat") is None

    def test_the_one_in_the_banner_touches_nothing(
        self, app: Celery, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Leader, "new_lock", lambda *_: pytest.fail("took a lock"))
        PersistentScheduler(app, schedule_filename=str(runtime / "schedule"), lazy=True)
        assert not list(runtime.iterdir())


class TestOnce:
    def test_it_is_due_from_its_moment_on(self) -> None:
        once = Once(NOON, nowfun=lambda: NOON - timedelta(seconds=7))
        assert once.is_due(NOON - timedelta(days=1)) == (False, 7)
        once = Once(NOON, nowfun=lambda: NOON + timedelta(hours=1))
        assert once.is_due(NOON - timedelta(days=1)).is_due

    def test_it_is_not_due_again(self) -> None:
        once = Once(NOON, nowfun=lambda: NOON + timedelta(hours=1))
        assert not once.is_due(NOON + timedelta(seconds=1)).is_due

    def test_it_survives_the_schedule_file(self) -> None:
        assert pickle.loads(pickle.dumps(Once(NOON))) == Once(NOON)  # noqa: S301

    def test_it_runs_once_however_often_beat_starts(
        self,
        app: Celery,
        turn: Turn,
        sent: Sent,
        runtime: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        soon = timezone.now() + timedelta(seconds=0.3)
        in_memory(monkeypatch, Schedule(name="Open", task="bakery.open", when=soon))
        for _ in range(3):
            scheduler = PersistentScheduler(app, schedule_filename=str(runtime / "schedule"))
            deadline = timezone.now() + timedelta(seconds=0.5)
            while timezone.now() < deadline:
                scheduler.tick()
            scheduler.close()
        assert sent == ["bakery.open"]


@pytest.mark.skipif(not IN_THE_DATABASE, reason="the schedule is not in the database")
@pytest.mark.django_db(transaction=True)
class TestDatabaseScheduler:
    @pytest.fixture
    def make(self, app: Celery, turn: Turn, sent: Sent) -> Iterator[Any]:
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

    def test_even_two_that_lead_send_a_due_time_once(self, make: Any, sent: Sent) -> None:
        first, second = make(), make()
        for scheduler in (first, second):
            scheduler._lead()
        for _ in range(3):
            first.tick()
            second.tick()
        assert sent == ["bakery.knead"]
        assert self.row().total_run_count == 1

    def test_a_run_is_written_down_before_it_is_sent(
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

    def test_a_run_that_the_broker_refuses_is_given_back(self, make: Any, sent: Sent) -> None:
        before = self.row()
        sent.away = True
        make().tick()
        after = self.row()
        assert (after.last_run_at, after.total_run_count) == (before.last_run_at, 0)

    def test_what_was_switched_off_a_moment_ago_is_not_sent(self, make: Any, sent: Sent) -> None:
        scheduler = make()
        scheduler._lead()
        type(self.row()).objects.update(enabled=False)
        for _ in range(3):
            scheduler.tick()
        assert sent == []

    def test_a_crontab_that_is_hours_late_is_sent_now_and_not_before_its_next_hour(
        self, make: Any, sent: Sent
    ) -> None:
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
    def test_a_row_that_cannot_be_read_stops_no_other(
        self, make: Any, sent: Sent, broken: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        from django_celery_beat.models import PeriodicTask

        PeriodicTask.objects.create(
            name="Odd", task="bakery.odd", interval=self.row().interval, **broken
        )
        scheduler = make()
        for _ in range(3):
            scheduler.tick()
        assert sent == ["bakery.knead"]
        assert "Schedule 'Odd' is left out" in caplog.text

    def test_it_has_no_heartbeat_while_the_database_is_away(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = make()
        scheduler.tick()
        heartbeat.stop("beat")

        def fail() -> None:
            raise DatabaseAwayError("connection refused\nIs the server running?")

        with monkeypatch.context() as away:
            away.setattr(scheduler.Changes, "last_change", fail)
            assert scheduler.tick() == beat.PAUSE
            assert heartbeat.age("beat") is None
        scheduler.tick()
        assert heartbeat.age("beat") is not None

    def test_without_tables_it_says_what_to_run(
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
            "Beat waits: the database has no tables for schedules yet. "
            "Run: python manage.py migrate"
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

    @pytest.mark.parametrize(
        "when",
        [
            Crontab(hour="3", time_zone="Asia/Tokyo"),
            Solar(event="sunset", latitude=52.5, longitude=13.4),
            NOON,
        ],
        ids=["crontab with a time zone", "sun", "one-off"],
    )
    def test_every_kind_of_schedule_comes_back_from_redis(
        self, redbeat: Any, app: Celery, sent: Sent, when: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if isinstance(when, Solar):
            pytest.importorskip("ephem", reason="Celery computes the sun with the package ephem")
        in_memory(monkeypatch, Schedule(name="Open", task="bakery.open", when=when))
        scheduler = redbeat.RedBeatScheduler(app)
        scheduler.tick()
        entry = redbeat.Entry.from_key(redbeat.Entry.generate_key(app, "Open"), app=app)
        scheduler.close()
        declared = beat.declared_entries()["Open"]["schedule"]
        assert type(entry.schedule) is type(declared)
        assert entry.schedule == declared
        assert isinstance(declared, TzAwareCrontab | solar | Once)

    def test_declared_entries_are_dropped_and_others_stay(
        self, redbeat: Any, app: Celery, sent: Sent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_memory(monkeypatch, every_hour())
        scheduler = redbeat.RedBeatScheduler(app)
        scheduler.tick()
        scheduler.close()
        redbeat.Entry("By hand", "bakery.open", timedelta(minutes=30), app=app).save()
        keys = {name: redbeat.Entry.generate_key(app, name) for name in ("Knead", "By hand")}
        dropped = redbeat.RedBeatScheduler(app, lazy=True)
        assert dropped.drop_declared() == ["removed: Knead"]
        assert dropped.drop_declared() == []
        assert redbeat.Entry.from_key(keys["By hand"], app=app).name == "By hand"
        with pytest.raises(KeyError):
            redbeat.Entry.from_key(keys["Knead"], app=app)

    def test_a_single_moment_runs_once_however_often_beat_starts(
        self, redbeat: Any, app: Celery, sent: Sent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        soon = timezone.now() + timedelta(seconds=0.3)
        in_memory(monkeypatch, Schedule(name="Open", task="bakery.open", when=soon))
        for _ in range(3):
            scheduler = redbeat.RedBeatScheduler(app)
            deadline = timezone.now() + timedelta(seconds=1.2)
            while timezone.now() < deadline:
                scheduler.tick()
            scheduler.close()
        assert sent == ["bakery.open"]

    def test_when_it_ran_is_the_same_in_the_hour_that_comes_twice(
        self, redbeat: Any, app: Celery
    ) -> None:
        entry = redbeat.Entry("Open", "bakery.open", timedelta(minutes=30), app=app)
        app.conf.update(timezone="Europe/Berlin")
        assert entry.default_now().tzinfo is UTC

    def test_one_of_two_holds_the_lock_and_a_stop_hands_it_over(
        self, redbeat: Any, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_memory(monkeypatch)
        first, second = redbeat.RedBeatScheduler(app), redbeat.RedBeatScheduler(app)
        assert first._lead()
        assert not second._lead()
        assert first._lead()
        first.close()
        assert second._lead()
        second.close()


HANGS = """
import logging, time
from apps.pipeline.watchdog import Watchdog
logging.basicConfig()
watchdog = Watchdog("beat", limit=0.4)
watchdog.start()
for _ in range(4):
    time.sleep(0.2)
    watchdog.pat()
print("alive", flush=True)
time.sleep(30)
"""


def test_a_process_that_hangs_ends_itself_and_says_where() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "alive\n"
    assert "CRITICAL:apps.pipeline.watchdog:beat did nothing for 0 s" in done.stderr
    assert "in <module>" in done.stderr
