import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

if "django_celery_beat" not in settings.INSTALLED_APPS:
    pytest.skip("Beat's schedule is not a table here", allow_module_level=True)

from django_celery_beat.models import (
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from apps.pipeline.beat.sync import after_migrate, sync
from apps.pipeline.beat.times import columns_of
from apps.pipeline.schedules import Crontab, Schedule, Solar
from apps.pipeline.status.parts import Part

COMMAND = "apps.pipeline.management.commands.sync_schedules"

pytestmark = pytest.mark.django_db

Declare = Callable[..., None]
HOURLY = timedelta(hours=1)


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Replace the declared schedules."""

    def declare(*schedules: Schedule) -> None:
        by_name = {schedule.name: schedule for schedule in schedules}
        monkeypatch.setattr("apps.pipeline.beat.sync.declared", lambda: by_name)

    declare()
    sync()  # removes the project's own schedules, and the next lines their times
    CrontabSchedule.objects.all().delete()
    IntervalSchedule.objects.all().delete()
    return declare


def schedule(
    name: str = "Restock",
    when: timedelta | Crontab | Solar | datetime = HOURLY,
    enabled: bool = True,
    expires: timedelta | None = None,
) -> Schedule:
    return Schedule(
        name=name, task="shop.tasks.restock", when=when, enabled=enabled, expires=expires
    )


def row(name: str = "Restock") -> PeriodicTask:
    return PeriodicTask.objects.get(name=name)


def names() -> set[str]:
    return set(PeriodicTask.objects.values_list("name", flat=True))


def create_row(name: str) -> PeriodicTask:
    daily = IntervalSchedule.objects.create(every=1, period="days")
    return PeriodicTask.objects.create(name=name, task="shop.tasks.count", interval=daily)


class TestWriting:
    def test_adds_what_is_declared(self, declare: Declare) -> None:
        declare(
            Schedule(
                name="Restock",
                task="shop.tasks.restock",
                when=HOURLY,
                args=("flour",),
                kwargs={"kilos": 5},
                queue="slow",
                expires=timedelta(minutes=10),
            )
        )
        assert sync() == ["added: Restock"]
        assert row().task == "shop.tasks.restock"
        assert json.loads(row().args) == ["flour"]
        assert json.loads(row().kwargs) == {"kilos": 5}
        assert (row().queue, row().expire_seconds, row().one_off) == ("slow", 600, False)
        assert row().enabled

    def test_a_replica_is_not_read(self, declare: Declare, settings: Settings) -> None:
        """It may not have what this transaction wrote."""
        declare(schedule())
        settings.DATABASE_ROUTERS = [SimpleNamespace(db_for_read=lambda *_, **__: "replica")]
        assert sync() == ["added: Restock"]
        assert sync() == []

    @pytest.mark.parametrize("text", ["2030-10-27T02:30", "2030-03-31T02:30"])
    def test_a_time_in_an_hour_that_is_repeated_or_skipped(
        self, declare: Declare, text: str
    ) -> None:
        when = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Vienna"))
        declare(schedule(when=when))
        assert sync() == ["added: Restock"]
        assert sync() == []
        row = PeriodicTask.objects.get(clocked__clocked_time=when.astimezone(UTC))
        assert row.name == "Restock"

    def test_a_second_run_changes_nothing(self, declare: Declare) -> None:
        declare(
            schedule("every so often", HOURLY),
            schedule("by the clock", Crontab(hour="3")),
            schedule("by the sun", Solar(event="sunset", latitude=52.5, longitude=13.4)),
            schedule("once", datetime(2030, 1, 1, tzinfo=UTC)),
        )
        assert len(sync()) == 4
        assert sync() == []

    def test_coordinates_are_rounded_as_the_table_does(self, declare: Declare) -> None:
        berlin = Solar(event="sunset", latitude=52.520006591, longitude=13.404953999)
        place = columns_of([berlin])[berlin]["solar"]
        assert isinstance(place, SolarSchedule)
        assert [float(place.latitude), float(place.longitude)] == [52.520007, 13.404954]
        declare(schedule(when=berlin))
        assert sync() == ["added: Restock"]
        assert sync() == []

    def test_changes_only_what_differs(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        before = row()
        declare(schedule(expires=timedelta(minutes=1)))
        assert sync() == ["changed: Restock (expire_seconds)"]
        assert (row().pk, row().interval) == (before.pk, before.interval)

    def test_changes_the_kind_of_schedule(self, declare: Declare) -> None:
        declare(schedule(when=HOURLY))
        sync()
        declare(schedule(when=Crontab(hour="3")))
        assert sync() == ["changed: Restock (interval, crontab)"]
        assert row().interval is None

    def test_keeps_the_last_run_and_the_run_count(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        PeriodicTask.objects.update(last_run_at=moment, total_run_count=7)
        declare(schedule(when=timedelta(hours=2)))
        sync()
        assert (row().last_run_at, row().total_run_count) == (moment, 7)

    def test_removes_schedules_that_are_no_longer_declared(self, declare: Declare) -> None:
        declare(schedule("Restock"), schedule("Bake"))
        sync()
        declare(schedule("Bake"))
        assert sync() == ["removed: Restock"]
        assert names() == {"Bake"}

    def test_a_renamed_schedule_has_only_its_new_name(self, declare: Declare) -> None:
        declare(schedule("Restock"))
        sync()
        declare(schedule("Fill the shelves"))
        assert sync() == ["removed: Restock", "added: Fill the shelves"]
        assert names() == {"Fill the shelves"}

    @pytest.mark.parametrize(
        ("every", "text"),
        [
            (timedelta(minutes=30), "every 30 minutes"),
            (timedelta(hours=24), "every day"),
            (timedelta(hours=36), "every 36 hours"),
            (timedelta(seconds=90), "every 90 seconds"),
            (timedelta(milliseconds=1.5), "every 1500 microseconds"),
        ],
    )
    def test_an_interval_uses_the_largest_period(
        self, declare: Declare, every: timedelta, text: str
    ) -> None:
        declare(schedule(when=every))
        sync()
        assert str(row().interval) == text

    @pytest.mark.parametrize(
        ("declared", "written"), [("Asia/Tokyo", "Asia/Tokyo"), (None, settings.TIME_ZONE)]
    )
    def test_a_crontab_is_in_its_own_time_zone_or_the_projects(
        self, declare: Declare, declared: str | None, written: str
    ) -> None:
        declare(schedule(when=Crontab(hour="3", time_zone=declared)))
        sync()
        crontab = row().crontab
        assert crontab
        assert str(crontab.timezone) == written

    def test_schedules_with_the_same_time_share_a_row(self, declare: Declare) -> None:
        declare(schedule("Restock", Crontab(hour="3")), schedule("Bake", Crontab(hour="3")))
        sync()
        assert CrontabSchedule.objects.filter(hour="3").count() == 1


class TestQueries:
    """The number of queries does not depend on the number of schedules."""

    def schedules(self, count: int, **fields: Any) -> list[Schedule]:
        """Schedules of all kinds, each with a time of its own."""
        times = (
            [timedelta(hours=number + 1) for number in range(count)],
            [Crontab(minute=str(number % 60), hour=str(number // 60)) for number in range(count)],
            [datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(count)],
        )
        whens = [time for same in zip(*times, strict=True) for time in same][:count]
        return [schedule(f"Restock {number}", when, **fields) for number, when in enumerate(whens)]

    def queries(self, declare: Declare, schedules: list[Schedule]) -> int:
        declare(*schedules)
        with CaptureQueriesContext(connection) as queries:
            sync()
        return len(queries)

    def test_adding_changing_and_removing_do_not_take_a_query_for_each_schedule(
        self, declare: Declare
    ) -> None:
        counts = {}
        for count in (10, 300):
            counts[count] = [
                self.queries(declare, self.schedules(count)),
                self.queries(declare, self.schedules(count)),
                self.queries(declare, self.schedules(count, expires=HOURLY)),
                self.queries(declare, []),
            ]
        few, many = counts[10], counts[300]
        assert many[1] == few[1]
        assert many[3] <= few[3] + 9  # Django deletes 100 rows at a time
        if connection.vendor == "sqlite":  # Django writes 999 values at a time
            assert all(count < 100 for count in many)
        else:
            assert many[:3] == few[:3]


class TestAdmin:
    """Edits in the admin, of declared rows and of others."""

    def test_a_disabled_schedule_stays_disabled(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        PeriodicTask.objects.update(enabled=False)
        assert sync() == []
        declare(schedule(when=timedelta(hours=2)))
        assert sync() == ["changed: Restock (interval)"]
        assert not row().enabled

    def test_an_enabled_schedule_stays_enabled(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        PeriodicTask.objects.update(enabled=True)
        assert sync() == []
        assert row().enabled

    def test_a_change_of_enabled_in_code_is_applied(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        declare(schedule(enabled=True))
        assert sync() == ["changed: Restock (headers, enabled)"]
        assert row().enabled
        declare(schedule(enabled=False))
        sync()
        assert not row().enabled

    def test_other_rows_are_not_changed(self, declare: Declare) -> None:
        by_hand = create_row("Count")
        declare(schedule())
        assert sync() == ["added: Restock"]
        declare()
        assert sync() == ["removed: Restock"]
        assert row("Count").date_changed == by_hand.date_changed

    @pytest.mark.parametrize(
        "headers",
        ["declared_as", '["declared_as"]', '"declared_as"', '{"declared_as": ["Restock"]}'],
    )
    def test_rows_with_other_headers_are_not_changed(self, declare: Declare, headers: str) -> None:
        create_row("Count")
        PeriodicTask.objects.update(headers=headers)
        declare(schedule())
        assert sync() == ["added: Restock"]
        assert row("Count").headers == headers

    def test_a_copy_of_a_declared_row_is_not_changed(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        create_row("Restock too")
        PeriodicTask.objects.update(headers=row().headers)
        assert sync() == []
        declare()
        assert sync() == ["removed: Restock"]
        assert sync() == []
        assert row("Restock too").task

    def test_runs_that_it_missed_while_disabled_are_not_repeated(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        PeriodicTask.objects.update(last_run_at=datetime(2026, 1, 1, tzinfo=UTC))
        declare(schedule(enabled=True))
        sync()
        assert row().last_run_at is None  # Beat then counts from the change

    def test_another_row_with_a_declared_name_is_reported(self, declare: Declare) -> None:
        create_row("Restock")
        declare(schedule("Restock"), schedule("Bake"))
        assert sync() == [
            "not written: Restock (another row has this name: rename that row)",
            "added: Bake",
        ]
        assert row("Restock").task == "shop.tasks.count"

    def test_renaming_is_undone(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        PeriodicTask.objects.update(name="Mine")
        assert sync() == ["changed: Restock (name)"]
        assert names() == {"Restock"}

    def test_any_other_edit_is_undone(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        daily = IntervalSchedule.objects.create(every=1, period="days")
        PeriodicTask.objects.update(interval=daily, queue="fast", args="[1]")
        assert sync() == ["changed: Restock (args, queue, interval)"]
        assert str(row().interval) == "every hour"
        assert row().queue is None


class TestOnce:
    FIRST, SECOND = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)

    @pytest.fixture
    def ran(self, declare: Declare) -> None:
        """Make a row that ran once, as Beat does: it disables the row."""
        declare(schedule(when=self.FIRST))
        sync()
        assert row().one_off
        PeriodicTask.objects.update(enabled=False, last_run_at=None)

    def test_it_does_not_run_again(self, ran: None) -> None:
        assert sync() == []
        assert not row().enabled

    def test_with_a_new_time_it_runs_again(self, ran: None, declare: Declare) -> None:
        PeriodicTask.objects.update(total_run_count=1)
        declare(schedule(when=self.SECOND))
        assert sync() == ["changed: Restock (clocked, enabled, total_run_count)"]
        assert (row().enabled, row().total_run_count) == (True, 0)
        clocked = row().clocked
        assert clocked
        assert clocked.clocked_time == self.SECOND

    def test_a_time_that_has_passed_at_the_first_sync_does_not_run(self, declare: Declare) -> None:
        declare(schedule(when=timezone.now() - timedelta(seconds=1)))
        assert sync() == ["added: Restock"]
        assert not row().enabled
        assert sync() == []

    def test_it_runs_again_if_it_becomes_an_interval(self, ran: None, declare: Declare) -> None:
        declare(schedule(when=HOURLY))
        sync()
        assert (row().enabled, row().one_off) == (True, False)


class TestNotice:
    """Beat reads the rows again when `last_change` changes."""

    def test_beat_notices_each_change(self, declare: Declare) -> None:
        for declared in ([schedule()], [schedule(when=timedelta(hours=2))], []):
            before = PeriodicTasks.last_change()
            declare(*declared)
            assert len(sync()) == 1
            assert PeriodicTasks.last_change() > before

    def test_beat_notices_nothing_without_a_change(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        before = PeriodicTasks.last_change()
        sync()
        sync(dry_run=True)
        assert PeriodicTasks.last_change() == before


class TestDryRun:
    def test_lists_the_same_changes_and_changes_nothing(self, declare: Declare) -> None:
        declare(schedule("Restock"), schedule("Bake"))
        sync()
        declare(schedule("Bake", Crontab(hour="3")), schedule("Deliver"))
        before = PeriodicTasks.last_change()
        output = sync(dry_run=True)
        assert output == ["removed: Restock", "changed: Bake (interval, crontab)", "added: Deliver"]
        assert names() == {"Restock", "Bake"}
        assert not CrontabSchedule.objects.filter(hour="3").exists()
        assert PeriodicTasks.last_change() == before
        assert sync() == output


class TestCommand:
    def run(self, *arguments: str) -> str:
        output = StringIO()
        call_command("sync_schedules", *arguments, stdout=output)
        return output.getvalue()

    def test_prints_its_changes_and_then_that_schedules_are_in_sync(self, declare: Declare) -> None:
        declare(schedule())
        assert self.run() == "Schedule added: Restock\n"
        assert self.run() == "Schedules are in sync.\n"

    def test_a_dry_run_only_prints_the_changes(self, declare: Declare) -> None:
        declare(schedule())
        assert self.run("--dry-run") == "Schedule added: Restock\n"
        assert names() == set()

    def test_check_fails_on_a_difference_and_changes_nothing(self, declare: Declare) -> None:
        declare(schedule())
        with pytest.raises(CommandError, match="differ from the code: run migrate") as error:
            self.run("--check")
        assert error.value.returncode == 1
        assert names() == set()
        sync()
        assert self.run("--check") == "Schedules are in sync.\n"

    def test_drop_removes_declared_schedules_unless_a_beat_leads(
        self, declare: Declare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declare(schedule())
        create_row("Restock too")
        sync()
        monkeypatch.setattr(f"{COMMAND}.leader", lambda: Part("leader", True, "a Beat leads"))
        with pytest.raises(CommandError, match=r"Stop it first\. Nothing was removed"):
            self.run("--drop")
        monkeypatch.setattr(f"{COMMAND}.leader", lambda: Part("leader", False, "no Beat leads"))
        for command in (["--drop", "--dry-run"], ["--drop"]):
            assert self.run(*command) == "Schedule removed: Restock\n"
        assert self.run("--drop") == "Nothing to remove.\n"
        assert names() == {"Restock too"}

    def test_without_the_tables_a_dry_run_of_drop_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(f"{COMMAND}.leader", lambda: None)
        monkeypatch.setattr(f"{COMMAND}.apps", SimpleNamespace(is_installed=lambda _: False))
        with pytest.raises(CommandError, match="no dry run of --drop"):
            self.run("--drop", "--dry-run")


class TestMigrate:
    def migrated(self, *, using: str = "default", verbosity: int = 1) -> None:
        after_migrate(apps.get_app_config("pipeline"), using=using, verbosity=verbosity)

    def test_writes_the_schedules_and_prints_the_changes(
        self, declare: Declare, capsys: pytest.CaptureFixture[str]
    ) -> None:
        declare(schedule())
        call_command("migrate")
        assert "  Schedule added: Restock\n" in capsys.readouterr().out
        assert names() == {"Restock"}

    def test_prints_nothing_with_verbosity_0(
        self, declare: Declare, capsys: pytest.CaptureFixture[str]
    ) -> None:
        declare(schedule())
        self.migrated(verbosity=0)
        assert capsys.readouterr().out == ""
        assert names() == {"Restock"}

    def test_writes_nothing_for_another_database(self, declare: Declare) -> None:
        declare(schedule())
        self.migrated(using="replica")
        assert names() == set()
