import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from celery import Celery
from celery.utils.imports import symbol_by_name
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from apps.pipeline import heartbeat, status
from apps.pipeline.embedded import free_port
from apps.pipeline.management.commands import doctor
from apps.pipeline.schedules import Schedule
from apps.pipeline.status import Part
from apps.pipeline.testing import running

PARTS = [
    "configuration",
    "database",
    "migrations",
    "broker",
    "worker",
    "queues",
    "round trip",
    "Beat",
    "schedules",
]
ALIVE = Part("some part", True, "alive")


@pytest.fixture(autouse=True)
def runtime(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.RUNTIME_DIR = tmp_path
    monkeypatch.setattr(doctor, "TRIP", 0.2)
    return tmp_path


@pytest.fixture
def app(live_app: Celery, broker_url: str) -> Celery:
    live_app.conf.update(redbeat_redis_url=broker_url)
    return live_app


def report() -> tuple[int, dict[str, tuple[bool | None, str]]]:
    """The exit code, and what is said of each part."""
    output, code = StringIO(), 0
    try:
        call_command("doctor", "--json", stdout=output)
    except SystemExit as end:
        code = int(end.code or 0)
    parts = json.loads(output.getvalue())["parts"]
    return code, {part["name"]: (part["ok"], part["words"]) for part in parts}


class TestWhole:
    def test_with_everything_up_all_is_well(
        self, live_worker: Celery, app: Celery, broker_url: str, runtime: Path
    ) -> None:
        heartbeat.beat("worker")
        output = StringIO()
        with running("beat", broker=broker_url, directory=runtime):
            wait_until(lambda: heartbeat.age("beat") is not None)
            call_command("doctor", stdout=output)
        lines = output.getvalue().splitlines()
        assert [line.partition(":")[0] for line in lines] == [f"✓ {name}" for name in PARTS]
        assert "0 waiting in celery" in output.getvalue()
        assert "one leads" in output.getvalue()

    def test_a_worker_of_another_machine_is_known_by_its_answer(
        self, live_worker: Celery, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "TRIP", 5)
        _, parts = report()
        assert parts["worker"][0] is True
        assert "no heartbeat of it is seen on this machine" in parts["worker"][1]
        assert parts["round trip"][0] is True


def wait_until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if true():
            return
        pause.wait(0.1)
    raise AssertionError("waited for a minute")


@pytest.fixture
def broker_away(app: Celery, broker_url: str) -> Iterator[None]:
    app.conf.update(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    yield
    app.conf.update(broker_url=broker_url)


@pytest.mark.django_db(transaction=True)
class TestRed:
    def test_worker_and_beat_that_do_not_run_with_what_to_do(self, app: Celery) -> None:
        output = StringIO()
        with pytest.raises(SystemExit) as end:
            call_command("doctor", stdout=output)
        assert end.value.code == 1
        lines = output.getvalue().splitlines()
        red = [number for number, line in enumerate(lines) if line.startswith("✗")]
        assert [lines[number].partition(":")[0] for number in red] == [
            "✗ worker",
            "✗ round trip",
            "✗ Beat",
        ]
        assert "✗ worker: not running, or still starting" in lines
        [queues] = [line for line in lines if "queues:" in line]
        assert queues.startswith("✓ queues: 0 waiting in celery, which no worker takes from")
        assert all(lines[number + 1].startswith("  → ") for number in red)

    def test_a_broker_that_is_away_and_what_depends_on_it(self, broker_away: None) -> None:
        code, parts = report()
        assert code == 1
        assert list(parts) == PARTS
        assert parts["broker"][0] is False
        assert parts["round trip"] == (None, "not asked: the broker first")
        assert parts["schedules"][0] is True

    def test_schedules_that_drifted(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "django_celery_beat" not in settings.INSTALLED_APPS:
            pytest.skip("Beat's schedule is not a table here")
        new = Schedule(name="New", task="apps.pipeline.tasks.ping", when=timedelta(hours=1))
        monkeypatch.setattr("apps.pipeline.sync.declared", lambda: {"New": new})
        finding = doctor.ask("schedules", status.schedules)
        assert not finding.ok
        assert finding.words.startswith("the database differs from the code: ")
        assert "added: New" in finding.words
        assert "just migrate" in finding.to_do

    def test_migrations_that_are_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MigrationRecorder, "has_table", lambda _: False)
        assert doctor.ask("migrations", status.migrations).words.endswith("the first")

    def test_a_setting_that_is_wrong(self, settings: Settings) -> None:
        settings.CELERY_TASK_MAX_RETRIES = 3
        [finding] = doctor.configuration()
        assert finding.ok is False
        assert finding.words.startswith("pipeline.E001: CELERY_TASK_MAX_RETRIES")


class TestAsking:
    def test_what_depends_on_a_database_that_is_down_is_not_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "database", lambda: Part("database", False, "refused"))
        monkeypatch.setattr(status, "broker", lambda: Part("broker", False, "refused"))
        monkeypatch.setattr(status, "schedules", lambda: ALIVE)
        findings = {finding.name: finding for finding in doctor.examine()}
        assert findings["database"].to_do.startswith("Start it")
        assert findings["migrations"].ok is None

    def test_what_hangs_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "STEP", 0.05)
        never = threading.Event()

        def hang() -> None:
            never.wait()

        finding = doctor.ask("broker", hang)
        never.set()
        assert (finding.ok, finding.words) == (False, "no answer within 0.05 s")

    def test_what_raises_is_one_line(self) -> None:
        def broken() -> Part:
            raise ValueError("one\ntwo")

        assert doctor.ask("broker", broken).words == "ValueError: one"

    def test_without_a_result_backend_there_is_no_round_trip(self, app: Celery) -> None:
        app.conf.update(result_backend="disabled://")
        finding = doctor.ask("round trip", lambda: status.round_trip(1))
        assert (finding.ok, finding.words) == (None, "not asked: the settings have none")


@pytest.fixture
def lead(app: Celery) -> Iterator[None]:
    """A Beat of another machine: it holds the lock."""
    lock = symbol_by_name(app.conf.beat_scheduler)(app, lazy=True).new_lock()
    assert lock.hold()
    yield
    lock.release()


@pytest.mark.django_db(transaction=True)
class TestBeat:
    up = doctor.finding("broker", True, "answers")

    def test_of_another_machine_is_known_by_its_lock(self, lead: None) -> None:
        finding = doctor.beat(self.up)
        assert (finding.ok, finding.words) == (
            True,
            "one leads, though no heartbeat is seen on this machine",
        )

    def test_that_ticks_while_none_leads_is_red(self, app: Celery) -> None:
        heartbeat.beat("beat")
        finding = doctor.beat(self.up)
        assert finding.ok is False
        assert finding.words.endswith("none leads")
