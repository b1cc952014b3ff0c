import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from celery import Celery
from celery.utils.imports import symbol_by_name
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.liveness import heartbeat
from apps.pipeline.schedules import Schedule
from apps.pipeline.status import parts, report
from apps.pipeline.status.parts import Part
from apps.pipeline.status.trace import round_trip

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
    (tmp_path / "beat.lock").touch()  # a Beat has run here
    return tmp_path


@pytest.fixture
def short_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no worker takes the task, there is nothing to wait for."""
    monkeypatch.setattr(report, "TRIP_TIMEOUT", 0.2)
    monkeypatch.setattr(report, "STEP_TIMEOUT", 90)


@pytest.fixture
def long_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer than a person waits."""
    monkeypatch.setattr(report, "TRIP_TIMEOUT", 60)
    monkeypatch.setattr(report, "STEP_TIMEOUT", 90)


@pytest.fixture
def app(live_app: Celery, broker_url: str) -> Celery:
    live_app.conf.update(redbeat_redis_url=broker_url)
    return live_app


def examined() -> tuple[int, dict[str, tuple[bool | None, str]]]:
    """The exit code, and the status of each part."""
    output, code = StringIO(), 0
    try:
        call_command("doctor", "--json", stdout=output)
    except SystemExit as end:
        code = int(end.code or 0)
    found = json.loads(output.getvalue())["parts"]
    return code, {part["name"]: (part["ok"], part["words"]) for part in found}


@pytest.mark.usefixtures("long_trip", "no_own_errors")
class TestGreen:
    def test_all_parts_work(self, live_worker: Celery, app: Celery, lead: None) -> None:
        output = StringIO()
        for role in ("beat", "worker"):
            heartbeat.write(role)
        call_command("doctor", stdout=output)
        lines = output.getvalue().splitlines()
        assert [line.partition(":")[0] for line in lines] == [f"✓ {name}" for name in PARTS]
        assert f"0 waiting in {app.conf.task_default_queue}" in output.getvalue()
        assert "a Beat leads" in output.getvalue()

    def test_a_worker_on_another_machine_is_recognized_by_its_result(
        self, live_worker: Celery, app: Celery
    ) -> None:
        _, found = examined()
        assert found["worker"][0] is True
        assert "runs on another machine (it ran the test task)" in found["worker"][1]
        assert found["round trip"][0] is True


@pytest.fixture
def broker_down(app: Celery, broker_url: str) -> Iterator[None]:
    app.conf.update(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    yield
    app.conf.update(broker_url=broker_url)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("short_trip", "no_own_errors")
class TestRed:
    def test_says_how_to_start_worker_and_beat(self, app: Celery) -> None:
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
        default = app.conf.task_default_queue
        assert queues.startswith(f"✓ queues: 0 waiting in {default}, which no worker consumes")
        assert all(lines[number + 1].startswith("  → ") for number in red)

    def test_a_broker_that_does_not_answer_and_the_parts_that_need_it(
        self, broker_down: None
    ) -> None:
        code, found = examined()
        assert code == 1
        assert list(found) == PARTS
        assert found["broker"][0] is False
        assert found["round trip"] == (None, "not checked, because the broker does not work")
        assert found["schedules"][0] is True

    def test_schedules_that_are_not_in_sync(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "django_celery_beat" not in settings.INSTALLED_APPS:
            pytest.skip("Beat's schedule is not a table here")
        new = Schedule(name="New", task="apps.pipeline.tasks.ping", when=timedelta(hours=1))
        monkeypatch.setattr("apps.pipeline.beat.sync.declared", lambda: {"New": new})
        finding = report.check_part("schedules", parts.schedules)
        assert not finding.ok
        assert finding.words.startswith("the database differs from the code: ")
        assert "added: New" in finding.words
        assert "just migrate" in finding.to_do

    def test_migrations_that_are_not_applied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MigrationRecorder, "has_table", lambda _: False)
        finding = report.check_part("migrations", parts.migrations)
        assert "not applied, the first is " in finding.words

    def test_a_setting_with_an_error(self, settings: Settings) -> None:
        settings.CELERY_TASK_SOFT_TIMELIMIT = 3
        [finding] = report.configuration()
        assert finding.ok is False
        assert finding.words.startswith("pipeline.E001: CELERY_TASK_SOFT_TIMELIMIT")


class TestAsking:
    def test_parts_that_need_the_database_are_not_checked_without_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts, "database", lambda: Part("database", False, "refused"))
        monkeypatch.setattr(parts, "broker", lambda: Part("broker", False, "refused"))
        monkeypatch.setattr(parts, "schedules", lambda: ALIVE)
        findings = {finding.name: finding for finding in report.all_parts()}
        assert findings["database"].to_do.startswith("Start it")
        assert findings["migrations"].ok is None

    def test_a_part_that_hangs_is_abandoned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(report, "STEP_TIMEOUT", 0.05)
        never = threading.Event()

        def hang() -> None:
            never.wait()

        finding = report.check_part("broker", hang)
        never.set()
        assert (finding.ok, finding.words) == (False, "no answer within 0.05 s")

    def test_an_exception_is_shown_in_one_line(self) -> None:
        def broken() -> Part:
            raise ValueError("one\ntwo")

        assert report.check_part("broker", broken).words == "ValueError: one"

    def test_without_a_result_backend_there_is_no_round_trip(self, app: Celery) -> None:
        app.conf.update(result_backend="disabled://")
        finding = report.check_part("round trip", lambda: round_trip(1))
        words = "not checked, because no result backend is set"
        assert (finding.ok, finding.words) == (None, words)

    def test_eager_tasks_are_no_round_trip(self, app: Celery) -> None:
        app.conf.update(task_always_eager=True)
        finding = report.check_part("round trip", lambda: round_trip(1))
        assert finding.ok is False
        assert "CELERY_TASK_ALWAYS_EAGER is on" in finding.words


@pytest.fixture
def lead(app: Celery) -> Iterator[None]:
    """Hold the lock, as a Beat on another machine does."""
    lock = symbol_by_name(app.conf.beat_scheduler)(app, lazy=True).new_lock()
    assert lock.hold()
    yield
    lock.release()


@pytest.mark.django_db(transaction=True)
class TestBeat:
    up = Part("broker", True, "answers")

    def test_on_another_machine_is_recognized_by_its_lock(self, lead: None) -> None:
        finding = report.beat(self.up)
        assert (finding.ok, finding.words) == (True, "the leader runs on another machine")

    def test_with_a_heartbeat_but_without_a_leader_is_red(self, app: Celery) -> None:
        heartbeat.write("beat")
        finding = report.beat(self.up)
        assert finding.ok is False
        assert finding.words.endswith("no Beat leads")

    def test_is_not_known_if_it_has_its_file_lock_in_another_container(
        self, app: Celery, settings: Settings, runtime: Path
    ) -> None:
        app.conf.update(beat_scheduler="apps.pipeline.beat.file:PersistentScheduler")
        assert report.beat(self.up).ok is False
        (runtime / "beat.lock").unlink()
        for _ in range(2):
            assert report.beat(self.up).ok is None
        settings.DEBUG = True  # in development web and Beat have one directory
        assert report.beat(self.up).ok is False
