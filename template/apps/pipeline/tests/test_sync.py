import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

if "django_celery_beat" not in settings.INSTALLED_APPS:
    pytest.skip("Beat's schedule is not a table here", allow_module_level=True)

from django_celery_beat.models import (
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from apps.pipeline import status
from apps.pipeline.schedules import Crontab, Schedule, Solar
from apps.pipeline.sync import _when, after_migrate, sync

pytestmark = pytest.mark.django_db

Declare = Callable[..., None]
HOURLY = timedelta(hours=1)


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Say what code declares now, in place of what it declared before."""

    def declare(*schedules: Schedule) -> None:
        by_name = {schedule.name: schedule for schedule in schedules}
        monkeypatch.setattr("apps.pipeline.sync.declared", lambda: by_name)

    declare()
    sync()  # the project's own declarations leave
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


def make_by_hand(name: str) -> PeriodicTask:
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

    def test_a_second_run_changes_nothing(self, declare: Declare) -> None:
        declare(
            schedule("every so often", HOURLY),
            schedule("by the clock", Crontab(hour="3")),
            schedule("by the sun", Solar(event="sunset", latitude=52.5, longitude=13.4)),
            schedule("once", datetime(2030, 1, 1, tzinfo=UTC)),
        )
        assert len(sync()) == 4
        assert sync() == []

    def test_a_place_is_written_as_exactly_as_a_row_can(self, declare: Declare) -> None:
        berlin = Solar(event="sunset", latitude=52.520006591, longitude=13.404953999)
        place = _when(berlin)["solar"]
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

    def test_keeps_when_it_ran_last_and_how_often(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        PeriodicTask.objects.update(last_run_at=moment, total_run_count=7)
        declare(schedule(when=timedelta(hours=2)))
        sync()
        assert (row().last_run_at, row().total_run_count) == (moment, 7)

    def test_removes_what_code_dropped(self, declare: Declare) -> None:
        declare(schedule("Restock"), schedule("Bake"))
        sync()
        declare(schedule("Bake"))
        assert sync() == ["removed: Restock"]
        assert names() == {"Bake"}

    def test_a_schedule_renamed_in_code_runs_under_its_new_name_only(
        self, declare: Declare
    ) -> None:
        declare(schedule("Restock"))
        sync()
        declare(schedule("Fill the shelves"))
        assert sync() == ["removed: Restock", "added: Fill the shelves"]
        assert names() == {"Fill the shelves"}

    @pytest.mark.parametrize(
        ("every", "words"),
        [
            (timedelta(minutes=30), "every 30 minutes"),
            (timedelta(hours=24), "every day"),
            (timedelta(hours=36), "every 36 hours"),
            (timedelta(seconds=90), "every 90 seconds"),
            (timedelta(milliseconds=1.5), "every 1500 microseconds"),
        ],
    )
    def test_an_interval_reads_as_a_person_would_say_it(
        self, declare: Declare, every: timedelta, words: str
    ) -> None:
        declare(schedule(when=every))
        sync()
        assert str(row().interval) == words

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

    def test_one_row_says_when_for_all_that_run_then(self, declare: Declare) -> None:
        declare(schedule("Restock", Crontab(hour="3")), schedule("Bake", Crontab(hour="3")))
        sync()
        assert CrontabSchedule.objects.filter(hour="3").count() == 1


class TestAdmin:
    """What a person does in the admin to rows that code declares, and to others."""

    def test_switching_off_stays(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        PeriodicTask.objects.update(enabled=False)
        assert sync() == []
        declare(schedule(when=timedelta(hours=2)))
        assert sync() == ["changed: Restock (interval)"]
        assert not row().enabled

    def test_switching_on_stays(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        PeriodicTask.objects.update(enabled=True)
        assert sync() == []
        assert row().enabled

    def test_code_that_changes_its_mind_counts(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        declare(schedule(enabled=True))
        assert sync() == ["changed: Restock (headers, enabled)"]
        assert row().enabled
        declare(schedule(enabled=False))
        sync()
        assert not row().enabled

    def test_a_row_made_by_hand_is_never_touched(self, declare: Declare) -> None:
        by_hand = make_by_hand("Count")
        declare(schedule())
        assert sync() == ["added: Restock"]
        declare()
        assert sync() == ["removed: Restock"]
        assert row("Count").date_changed == by_hand.date_changed

    @pytest.mark.parametrize(
        "headers",
        ["declared_as", '["declared_as"]', '"declared_as"', '{"declared_as": ["Restock"]}'],
    )
    def test_whatever_a_person_wrote_into_headers_is_theirs(
        self, declare: Declare, headers: str
    ) -> None:
        make_by_hand("Count")
        PeriodicTask.objects.update(headers=headers)
        declare(schedule())
        assert sync() == ["added: Restock"]
        assert row("Count").headers == headers

    def test_a_copy_of_a_declared_row_is_not_taken_for_it(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        make_by_hand("Restock too")
        PeriodicTask.objects.update(headers=row().headers)
        assert sync() == []
        declare()
        assert sync() == ["removed: Restock"]

    def test_what_was_due_while_it_was_off_is_not_made_up_for(self, declare: Declare) -> None:
        declare(schedule(enabled=False))
        sync()
        PeriodicTask.objects.update(last_run_at=datetime(2026, 1, 1, tzinfo=UTC))
        declare(schedule(enabled=True))
        sync()
        assert row().last_run_at is None  # Beat counts from the change then

    def test_a_row_made_by_hand_under_a_declared_name_is_reported(self, declare: Declare) -> None:
        make_by_hand("Restock")
        declare(schedule("Restock"), schedule("Bake"))
        assert sync() == [
            "not written: Restock (a row of this name was made by hand: rename it)",
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
        """A one-off that Beat has run: it switches such a row off."""
        declare(schedule(when=self.FIRST))
        sync()
        assert row().one_off
        PeriodicTask.objects.update(enabled=False, last_run_at=None)

    def test_it_stays_run(self, ran: None) -> None:
        assert sync() == []
        assert not row().enabled

    def test_a_new_moment_arms_it_again(self, ran: None, declare: Declare) -> None:
        PeriodicTask.objects.update(total_run_count=1)
        declare(schedule(when=self.SECOND))
        assert sync() == ["changed: Restock (clocked, enabled, total_run_count)"]
        assert (row().enabled, row().total_run_count) == (True, 0)
        clocked = row().clocked
        assert clocked
        assert clocked.clocked_time == self.SECOND

    def test_a_moment_that_is_past_at_first_sight_stays_past(self, declare: Declare) -> None:
        declare(schedule(when=timezone.now() - timedelta(seconds=1)))
        assert sync() == ["added: Restock"]
        assert not row().enabled
        assert sync() == []

    def test_made_recurring_it_runs_again(self, ran: None, declare: Declare) -> None:
        declare(schedule(when=HOURLY))
        sync()
        assert (row().enabled, row().one_off) == (True, False)


class TestNotice:
    """Beat reads the rows again when `last_change` moves."""

    def test_beat_notices_each_change(self, declare: Declare) -> None:
        for declared in ([schedule()], [schedule(when=timedelta(hours=2))], []):
            before = PeriodicTasks.last_change()
            declare(*declared)
            assert len(sync()) == 1
            assert PeriodicTasks.last_change() > before

    def test_beat_is_left_alone_when_nothing_changed(self, declare: Declare) -> None:
        declare(schedule())
        sync()
        before = PeriodicTasks.last_change()
        sync()
        sync(dry_run=True)
        assert PeriodicTasks.last_change() == before


class TestDryRun:
    def test_says_the_same_and_changes_nothing(self, declare: Declare) -> None:
        declare(schedule("Restock"), schedule("Bake"))
        sync()
        declare(schedule("Bake", Crontab(hour="3")), schedule("Deliver"))
        before = PeriodicTasks.last_change()
        said = sync(dry_run=True)
        assert said == ["removed: Restock", "changed: Bake (interval, crontab)", "added: Deliver"]
        assert names() == {"Restock", "Bake"}
        assert not CrontabSchedule.objects.filter(hour="3").exists()
        assert PeriodicTasks.last_change() == before
        assert sync() == said


class TestCommand:
    def run(self, *arguments: str) -> str:
        said = StringIO()
        call_command("sync_schedules", *arguments, stdout=said)
        return said.getvalue()

    def test_says_what_it_did_and_then_that_all_is_in_sync(self, declare: Declare) -> None:
        declare(schedule())
        assert self.run() == "Schedule added: Restock\n"
        assert self.run() == "Schedules are in sync.\n"

    def test_a_dry_run_only_says_it(self, declare: Declare) -> None:
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

    def test_drops_what_is_declared_from_a_scheduler_that_no_beat_works_with(
        self, declare: Declare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declare(schedule())
        make_by_hand("Restock too")
        sync()
        monkeypatch.setattr(status, "leader", lambda: status.Part("leader", True, "one leads"))
        with pytest.raises(CommandError, match="stop it first, nothing is removed"):
            self.run("--drop")
        monkeypatch.setattr(status, "leader", lambda: status.Part("leader", False, "none leads"))
        assert self.run("--drop") == "Schedule removed: Restock\n"
        assert self.run("--drop") == "Nothing to remove.\n"
        assert names() == {"Restock too"}


class TestMigrate:
    def migrated(self, *, using: str = "default", verbosity: int = 1) -> None:
        after_migrate(apps.get_app_config("pipeline"), using=using, verbosity=verbosity)

    def test_writes_the_schedules_and_says_so(
        self, declare: Declare, capsys: pytest.CaptureFixture[str]
    ) -> None:
        declare(schedule())
        call_command("migrate")
        assert "  Schedule added: Restock\n" in capsys.readouterr().out
        assert names() == {"Restock"}

    def test_is_silent_when_told_to_be(
        self, declare: Declare, capsys: pytest.CaptureFixture[str]
    ) -> None:
        declare(schedule())
        self.migrated(verbosity=0)
        assert capsys.readouterr().out == ""
        assert names() == {"Restock"}

    def test_of_another_database_writes_nothing(self, declare: Declare) -> None:
        declare(schedule())
        self.migrated(using="replica")
        assert names() == set()
