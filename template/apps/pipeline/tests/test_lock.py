import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import Error, connection
from pytest_django import Settings

from apps.pipeline.beat import lock
from apps.pipeline.beat.lock import DatabaseLock, FileLock, Lock
from apps.pipeline.tests.waiting import wait_until

HOLDER = """
import sys, time
from pathlib import Path
from apps.pipeline.beat.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.hold()
print("held", flush=True)
time.sleep(60)
"""


class Contract:
    """Tests for all locks. `pair` is two locks that compete."""

    def test_only_one_of_two_can_hold_it(self, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        assert first.hold()
        assert not second.hold()
        assert first.hold()
        assert not second.hold()

    def test_a_released_lock_is_free(self, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        assert all(first.hold() for _ in range(3))
        first.release()
        wait_until(second.hold)  # a database ends a closed session some moments later
        assert not first.hold()

    def test_releasing_a_lock_of_another_holder_does_nothing(self, pair: tuple[Lock, Lock]) -> None:
        first, second = pair
        first.hold()
        second.release()
        assert not second.hold()


class TestFileLock(Contract):
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Lock, Lock]:
        return FileLock(tmp_path / "beat.lock"), FileLock(tmp_path / "beat.lock")

    def test_the_lock_of_a_killed_holder_is_free(self, tmp_path: Path) -> None:
        path = tmp_path / "beat.lock"
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            assert not FileLock(path).hold()
            os.kill(holder.pid, signal.SIGKILL)
        assert FileLock(path).hold()

    def test_a_lock_whose_file_was_deleted_is_lost(
        self, tmp_path: Path, pair: tuple[Lock, Lock]
    ) -> None:
        first, second = pair
        first.hold()
        (tmp_path / "beat.lock").unlink()
        assert second.hold()
        assert not first.hold()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(
    connection.vendor not in DatabaseLock.STATEMENTS, reason="this database has no session locks"
)
class TestDatabaseLock(Contract):
    @pytest.fixture
    def pair(self, transactional_db: None) -> Iterator[tuple[Lock, Lock]]:
        pair = DatabaseLock(connection.copy()), DatabaseLock(connection.copy())
        yield pair
        for one in pair:
            one.release()

    def test_a_lock_whose_session_ended_is_lost(
        self, pair: tuple[DatabaseLock, DatabaseLock]
    ) -> None:
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
        wait_until(second.hold)  # a database ends a closed session some moments later
        assert not first.hold()
        second.release()
        wait_until(first.hold)


def test_sqlite_uses_the_file_lock(settings: Settings, tmp_path: Path) -> None:
    settings.RUNTIME_DIR = tmp_path
    chosen = lock.for_database()
    assert isinstance(chosen, FileLock if connection.vendor == "sqlite" else DatabaseLock)


def test_the_lock_can_be_in_another_database_than_the_schedule(settings: Settings) -> None:
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
