import os
import time
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.pipeline.liveness import heartbeat


@pytest.fixture(autouse=True)
def directory(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNTIME_DIR = tmp_path
    return tmp_path


def write_heartbeat(file: Path, *, seconds_ago: float) -> None:
    file.touch()
    os.utime(file, times=(time.time() - seconds_ago,) * 2)


def test_the_age_is_none_without_a_heartbeat() -> None:
    assert heartbeat.age("worker") is None


def test_a_heartbeat_counts_only_for_its_role() -> None:
    heartbeat.write("worker")
    age = heartbeat.age("worker")
    assert age is not None
    assert age < heartbeat.STALE_AFTER
    assert heartbeat.age("beat") is None


def test_the_age_grows_until_the_next_heartbeat(directory: Path) -> None:
    heartbeat.write("worker")
    [file] = directory.iterdir()
    write_heartbeat(file, seconds_ago=100)
    assert heartbeat.age("worker") == pytest.approx(100, abs=20)
    heartbeat.write("worker")
    assert heartbeat.age("worker") == pytest.approx(0, abs=20)


def test_the_latest_of_several_machines_counts(directory: Path) -> None:
    write_heartbeat(directory / "worker@one.heartbeat", seconds_ago=500)
    write_heartbeat(directory / "worker@two.heartbeat", seconds_ago=200)
    assert heartbeat.age("worker") == pytest.approx(200, abs=20)


def test_the_age_is_never_negative(directory: Path) -> None:
    write_heartbeat(directory / "beat@ahead.heartbeat", seconds_ago=-60)
    assert heartbeat.age("beat") == 0


def test_a_stopped_process_has_no_heartbeat() -> None:
    heartbeat.write("beat")
    heartbeat.delete("beat")
    heartbeat.delete("beat")
    assert heartbeat.age("beat") is None


def test_a_heartbeat_that_is_deleted_meanwhile_does_not_count(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([directory / "worker@one.heartbeat"]))
    assert heartbeat.age("worker") is None
    assert heartbeat.lines("worker") == set()


def test_workers_on_one_machine_have_a_heartbeat_each(directory: Path) -> None:
    for node, queue in {"celery@here": "celery", "mail/2@here": "mail"}.items():
        heartbeat.write("worker", queue, node=node)
    assert heartbeat.lines("worker") == {"celery", "mail"}
    heartbeat.delete("worker", node="celery@here")
    assert heartbeat.lines("worker") == {"mail"}
    assert heartbeat.age("worker") is not None
