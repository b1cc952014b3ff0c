"""Of several processes that could do a thing, one does: the one that holds the lock."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol
from zlib import crc32

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

# A holder confirms its lock at least every 5 s. One that was silent for this long, in seconds, is
# gone or frozen, and the lock goes to another; that one looks every second.
LEASE = 12


class Lock(Protocol):
    def hold(self) -> bool:
        """Take the lock, or confirm that it is still held; without waiting.

        Raises what the place of the lock raises when it does not answer: the lock is lost then.
        """

    def release(self) -> None:
        """Let go of it, for another to take at once. Harmless when it is not held."""


class FileLock:
    """For processes of one machine. The kernel releases it when its holder ends, however it ends.

    A holder that is frozen keeps it until it is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def hold(self) -> bool:
        if self._file is None:
            self._file = self._path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        if os.fstat(self._file.fileno()).st_nlink == 0:  # deleted: others lock a new one
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class DatabaseLock:
    """For processes of many machines: a lock of a database session, on a connection of its own.

    PostgreSQL calls it an advisory lock, MySQL and MariaDB a user-level lock. It ends with its
    session: at once when the holder ends, within LEASE when the holder or its machine freezes.

    A pooler that gives each transaction another session (PgBouncer's transaction mode) breaks it:
    the lock stays with a session of the pooler, so that two processes hold it, or none ever again.
    Behind one, set BEAT_LOCK_DATABASE_URL to the database itself, or to a pool in session mode.
    """

    # The session's limit for silence, and the question: both databases answer yes to a session
    # that has the lock already, so that taking and confirming are the same.
    STATEMENTS: ClassVar = {
        "postgresql": (
            f"SET idle_session_timeout = '{LEASE}s'",
            "SELECT pg_try_advisory_lock(%s)",
        ),
        "mysql": (
            f"SET SESSION wait_timeout = {LEASE}",
            "SELECT GET_LOCK(CONCAT('beat-', %s), 0)",
        ),
    }

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        """Take over a connection that nobody else uses."""
        options: dict[str, Any] = connection.settings_dict["OPTIONS"]
        options.pop("pool", None)  # closed, it has to be gone, not to wait for somebody else
        options.setdefault("connect_timeout", 5)
        self._connection = connection
        self._limit, self._question = self.STATEMENTS[connection.vendor]
        self._key = crc32(f"beat of {connection.settings_dict['NAME']}".encode())

    def hold(self) -> bool:
        try:
            is_new = self._connection.connection is None
            with self._connection.cursor() as cursor:
                if is_new:
                    cursor.execute(self._limit)
                cursor.execute(self._question, [self._key])
                (held,) = cursor.fetchone()
        except Error:
            self.release()
            raise
        return bool(held)

    def release(self) -> None:
        with suppress(Error):
            self._connection.close()


def for_file() -> Lock:
    """The lock of the Beats that share this machine's runtime directory."""
    return FileLock(settings.RUNTIME_DIR / "beat.lock")


def for_database() -> Lock:
    """The lock of the Beats that share the database; on SQLite that of the machine."""
    if separate := getattr(settings, "BEAT_LOCK_DATABASE", None):
        connection = ConnectionHandler({DEFAULT_DB_ALIAS: separate})[DEFAULT_DB_ALIAS]
    else:
        connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor not in DatabaseLock.STATEMENTS:
        return for_file()
    return DatabaseLock(connection.copy())
