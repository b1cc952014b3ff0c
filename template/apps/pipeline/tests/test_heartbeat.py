import os
import time
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.pipeline import heartbeat


@pytest.fixture(autouse=True)
def directory(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNTIME_DIR = tmp_path
    return tmp_path


def leave(file: Path, *, seconds_ago: float) -> None:
    file.touch()
    os.utime(file, times=(time.time() - seconds_ago,) * 2)


def test_a_process_that_never_beat_has_no_age() -> None:
    assert heartbeat.age("worker") is None


def test_a_heartbeat_is_young_and_only_of_its_role() -> None:
    heartbeat.beat("worker")
    age = heartbeat.age("worker")
    assert age is not None
    assert age < heartbeat.STALE_AFTER
    assert heartbeat.age("beat") is None


def test_it_grows_old_and_the_next_one_is_young_again(directory: Path) -> None:
    heartbeat.beat("worker")
    [file] = directory.iterdir()
    leave(file, seconds_ago=100)
    assert heartbeat.age("worker") == pytest.approx(100, abs=20)
    heartbeat.beat("worker")
    assert heartbeat.age("worker") == pytest.approx(0, abs=20)


def test_the_latest_of_several_machines_counts(directory: Path) -> None:
    leave(directory / "worker@one.heartbeat", seconds_ago=500)
    leave(directory / "worker@two.heartbeat", seconds_ago=200)
    assert heartbeat.age("worker") == pytest.approx(200, abs=20)


def test_a_clock_ahead_of_ours_makes_no_negative_age(directory: Path) -> None:
    leave(directory / "beat@ahead.heartbeat", seconds_ago=-60)
    assert heartbeat.age("beat") == 0


def test_who_stops_is_not_waited_for() -> None:
    heartbeat.beat("beat")
    heartbeat.stop("beat")
    heartbeat.stop("beat")
    assert heartbeat.age("beat") is None
