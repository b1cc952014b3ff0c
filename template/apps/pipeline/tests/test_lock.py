import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import Error, connection
from pytest_django import Settings

from apps.pipeline import lock
from apps.pipeline.lock import DatabaseLock, FileLock, Lock

HOLDER = """
import sys, time
from pathlib import Path
from apps.pipeline.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.hold()
print("held", flush=True)
time.sleep(60)
"""


class Contract:
    """What every lock does; `pair` are two that compete."""

    def test_one_of_two_holds_it(self, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        assert first.hold()
        assert not second.hold()
        assert first.hold()
        assert not second.hold()

    def test_released_it_is_free_at_once(self, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        assert all(first.hold() for _ in range(3))
        first.release()
        assert second.hold()
        assert not first.hold()

    def test_releasing_what_is_not_held_takes_nothing_from_the_holder(
        self, pair: tuple[Lock, Lock]
    ) -> None:
        first, second = pair
        first.hold()
        second.release()
        assert not second.hold()


class TestFileLock(Contract):
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Lock, Lock]:
        return FileLock(tmp_path / "beat.lock"), FileLock(tmp_path / "beat.lock")

    def test_a_killed_holder_leaves_it_free(self, tmp_path: Path) -> None:
        path = tmp_path / "beat.lock"
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            assert not FileLock(path).hold()
            os.kill(holder.pid, signal.SIGKILL)
        assert FileLock(path).hold()

    def test_a_deleted_file_is_a_lost_lock(self, tmp_path: Path, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        first.hold()
        (tmp_path / "beat.lock").unlink()
        assert second.hold()
        assert not first.hold()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(
    connection.vendor not in DatabaseLock.STATEMENTS, reason="this database has no such locks"
)
class TestDatabaseLock(Contract):
    @pytest.fixture
    def pair(self, transactional_db: None) -> Iterator[tuple[Lock, Lock]]:
        pair = DatabaseLock(connection.copy()), DatabaseLock(connection.copy())
        yield pair
        for one in pair:
            one.release()

    def test_a_lost_session_is_a_lost_lock(self, pair: tuple[DatabaseLock, DatabaseLock]) -> None:
        first, second = pair
        assert first.hold()
        with first._connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_backend_pid()")
            else:
                cursor.execute("SELECT CONNECTION_ID()")
            (number,) = cursor.fetchone()
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [number])
            else:
                cursor.execute("KILL %s", [number])
        with pytest.raises(Error):
            first.hold()
        assert second.hold()
        assert not first.hold()
        second.release()
        assert first.hold()


def test_a_file_database_is_locked_by_a_file(settings: Settings, tmp_path: Path) -> None:
    settings.RUNTIME_DIR = tmp_path
    chosen = lock.for_database()
    assert isinstance(chosen, FileLock if connection.vendor == "sqlite" else DatabaseLock)


def test_the_lock_may_be_in_another_database_than_the_schedule(settings: Settings) -> None:
    settings.BEAT_LOCK_DATABASE = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "app",
        "HOST": "behind-the-pooler",
        "OPTIONS": {"pool": True},
    }
    chosen = lock.for_database()
    assert isinstance(chosen, DatabaseLock)
    assert chosen._connection.settings_dict["HOST"] == "behind-the-pooler"
    assert chosen._connection.settings_dict["OPTIONS"] == {"connect_timeout": 5}
