from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, shared_task
from celery.schedules import crontab, solar
from celery.schedules import schedule as interval
from django.core.exceptions import ImproperlyConfigured
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab
from pytest_django import Settings

from apps.pipeline import schedules
from apps.pipeline.schedules import (
    Crontab,
    Schedule,
    Solar,
    as_beat_schedule,
    declared,
    unknown_task,
)

MODULE = """
from datetime import timedelta

from apps.pipeline.schedules import Schedule

SCHEDULES = [Schedule(name={name!r}, task="shop.restock", when=timedelta(hours=1))]
"""


@shared_task(name="shop.tasks.restock")
def restock() -> None: ...


class Install(Protocol):
    def __call__(self, app: str, *, name: str) -> None: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Install:
    """Install an app that declares a schedule with the given name."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(app: str, *, name: str) -> None:
        app = f"{app}_of_a_test"  # the project can have an app of this name
        (tmp_path / app).mkdir()
        (tmp_path / app / "__init__.py").touch()
        (tmp_path / app / "schedules.py").write_text(MODULE.format(name=name))
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, app]

    return install


class TestDeclared:
    def test_collects_what_installed_apps_declare(self, install: Install) -> None:
        before = declared()
        install("bakery", name="Bake")
        install("dairy", name="Milk")
        assert declared().keys() == before.keys() | {"Bake", "Milk"}
        assert declared()["Bake"].when == timedelta(hours=1)

    def test_refuses_two_schedules_with_the_same_name(self, install: Install) -> None:
        install("brewery", name="Restock")
        install("winery", name="Restock")
        with pytest.raises(ImproperlyConfigured, match="Two schedules are named 'Restock'"):
            declared()


class TestUnknownTask:
    def test_is_none_for_a_registered_task(self) -> None:
        assert unknown_task(restock.name) is None

    def test_proposes_similar_names(self) -> None:
        problem = unknown_task("shop.tasks.restok")
        assert problem is not None
        assert problem.startswith("No task is registered as 'shop.tasks.restok'. Did you mean ")
        assert "shop.tasks.restock" in problem

    def test_proposes_nothing_if_no_name_is_similar(self) -> None:
        assert unknown_task("?") == "No task is registered as '?'."


class TestAsBeatSchedule:
    @pytest.fixture
    def declare(self, monkeypatch: pytest.MonkeyPatch) -> list[Schedule]:
        """The list of declared schedules, which a test fills."""
        declarations: list[Schedule] = []
        monkeypatch.setattr(schedules, "declared", lambda: {one.name: one for one in declarations})
        return declarations

    @pytest.mark.parametrize(
        ("when", "expected"),
        [
            (timedelta(minutes=30), interval(timedelta(minutes=30))),
            (Crontab(minute="0", hour="3"), crontab(minute="0", hour="3")),
            (
                Crontab(hour="3", time_zone="Asia/Tokyo"),
                TzAwareCrontab(hour="3", tz=ZoneInfo("Asia/Tokyo")),
            ),
            (datetime(2030, 1, 1, tzinfo=UTC), clocked(datetime(2030, 1, 1, tzinfo=UTC))),
        ],
        ids=["interval", "crontab", "crontab with a time zone", "one-off"],
    )
    def test_converts_each_kind_to_celerys_schedule(
        self, declare: list[Schedule], when: timedelta | Crontab | datetime, expected: object
    ) -> None:
        declare.append(Schedule(name="Restock", task=restock.name, when=when))
        entry = as_beat_schedule()["Restock"]
        assert entry["task"] == restock.name
        assert type(entry["schedule"]) is type(expected)
        assert entry["schedule"] == expected

    def test_a_crontab_without_a_time_zone_uses_the_projects(self, declare: list[Schedule]) -> None:
        declare.append(Schedule(name="Restock", task=restock.name, when=Crontab(hour="3")))
        assert not isinstance(as_beat_schedule()["Restock"]["schedule"], TzAwareCrontab)

    def test_converts_solar_events(self, declare: list[Schedule]) -> None:
        pytest.importorskip("ephem", reason="Celery computes the sun with the package ephem")
        when = Solar(event="sunset", latitude=52.5, longitude=13.4)
        declare.append(Schedule(name="Lamps", task=restock.name, when=when))
        assert as_beat_schedule()["Lamps"]["schedule"] == solar("sunset", 52.5, 13.4)

    def test_includes_arguments_queue_and_expiry(self, declare: list[Schedule]) -> None:
        declare.append(
            Schedule(
                name="Restock",
                task=restock.name,
                when=timedelta(hours=1),
                args=("flour",),
                kwargs={"kilos": 5},
                queue="slow",
                expires=timedelta(minutes=10),
            )
        )
        entry = as_beat_schedule()["Restock"]
        assert (entry["args"], entry["kwargs"]) == (["flour"], {"kilos": 5})
        assert entry["options"] == {"queue": "slow", "expires": 600}

    def test_expires_after_whole_seconds_as_a_row_of_the_database_does(
        self, declare: list[Schedule]
    ) -> None:
        often = timedelta(seconds=1)
        declare.append(Schedule(name="Restock", task=restock.name, when=often, expires=often / 2))
        assert as_beat_schedule()["Restock"]["options"] == {"expires": 1}

    def test_omits_options_that_are_not_set(self, declare: list[Schedule]) -> None:
        declare.append(Schedule(name="Restock", task=restock.name, when=timedelta(hours=1)))
        assert as_beat_schedule()["Restock"]["options"] == {}

    def test_omits_disabled_schedules(self, declare: list[Schedule]) -> None:
        declare.append(
            Schedule(name="Restock", task=restock.name, when=timedelta(hours=1), enabled=False)
        )
        assert as_beat_schedule() == {}


SPRING = datetime(2027, 3, 28, tzinfo=UTC)  # Europe/Berlin: 02:00 to 03:00 does not happen
AUTUMN = datetime(2027, 10, 31, tzinfo=UTC)  # Europe/Berlin: 02:00 to 03:00 happens twice


def plain(pattern: dict[str, str], zone: str) -> crontab:
    """A crontab in the project's time zone, as the file scheduler and redbeat use it."""
    app = Celery("clock", set_as_current=False)
    app.conf.update(timezone=zone)
    return crontab(**pattern, app=app)


def aware(pattern: dict[str, str], zone: str) -> crontab:
    """A crontab with its own time zone, as the database scheduler uses it."""
    return TzAwareCrontab(**pattern, tz=ZoneInfo(zone))


@pytest.mark.parametrize("kind", [plain, aware])
class TestDaylightSaving:
    """A local time that exists is due once, even if it is repeated."""

    def due(
        self, kind: Callable[[dict[str, str], str], Any], zone: str, around: datetime, **at: str
    ) -> list[str]:
        """The times at which Beat finds it due, from a day before to a day after."""
        now = around - timedelta(hours=24)
        pattern = kind(at, zone)
        pattern.nowfun = lambda: now
        last_run, times = now, []
        while now < around + timedelta(hours=36):
            is_due, seconds = pattern.is_due(last_run)
            if is_due:
                last_run = now
                times.append(f"{now.astimezone(ZoneInfo(zone)):%d %H:%M %Z}")
            now += timedelta(seconds=min(float(seconds), 300))
        return times

    def test_in_spring_a_skipped_time_is_due_an_hour_later(self, kind: Any) -> None:
        times = self.due(kind, "Europe/Berlin", SPRING, hour="2", minute="30")
        assert times == ["27 02:30 CET", "28 03:30 CEST", "29 02:30 CEST"]

    def test_in_spring_other_times_do_not_change(self, kind: Any) -> None:
        times = self.due(kind, "Europe/Berlin", SPRING, hour="3", minute="30")
        assert times == ["27 03:30 CET", "28 03:30 CEST", "29 03:30 CEST"]

    def test_in_autumn_a_repeated_time_is_due_the_first_time(self, kind: Any) -> None:
        times = self.due(kind, "Europe/Berlin", AUTUMN, hour="2", minute="30")
        assert times == ["30 02:30 CEST", "31 02:30 CEST", "01 02:30 CET"]

    def test_in_autumn_other_times_do_not_change(self, kind: Any) -> None:
        times = self.due(kind, "Europe/Berlin", AUTUMN, hour="3", minute="30")
        assert times == ["30 03:30 CEST", "31 03:30 CET", "01 03:30 CET"]

    def test_an_hourly_crontab_follows_local_time(self, kind: Any) -> None:
        """In autumn one pause is two hours. A timedelta does not have this pause."""
        spring = self.due(kind, "Europe/Berlin", SPRING, minute="0")
        assert spring[spring.index("28 01:00 CET") + 1] == "28 03:00 CEST"
        autumn = self.due(kind, "Europe/Berlin", AUTUMN, minute="0")
        assert autumn[autumn.index("31 02:00 CEST") + 1] == "31 03:00 CET"
        for times in (spring, autumn):
            assert len(times) == len(set(times))

    @pytest.mark.parametrize("around", [SPRING, AUTUMN], ids=["spring", "autumn"])
    def test_a_time_zone_without_daylight_saving_has_no_exceptions(
        self, kind: Any, around: datetime
    ) -> None:
        times = self.due(kind, "Asia/Tokyo", around, hour="2", minute="30")
        days = [f"{around + timedelta(days=ahead):%d}" for ahead in (0, 1)]
        assert times == [f"{day} 02:30 JST" for day in days]
