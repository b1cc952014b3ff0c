"""Locks that make one of several Beats the leader.

The schedulers of Celery and django-celery-beat have no lock. Seen in django-celery-beat 2.9.0
(django-celery-beat #337, celery #1495). Delete this module once they have one.
"""

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

# Seconds until a lock that its holder does not confirm is released. The holder confirms it at least
# every 5 s, and the other Beats try to take it every second.
LEASE = 12


class Lock(Protocol):
    def hold(self) -> bool:
        """Take the lock or confirm it, without waiting. Return whether it is held.

        Raises the errors of the database or the Redis that has the lock. Then the lock is lost.
        """

    def release(self) -> None:
        """Release the lock if it is held, so that another Beat can take it at once."""


class FileLock:
    """A lock for processes of one machine. The kernel releases it when the holder exits.

    A frozen holder keeps it until it is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        # Whether Beats use this file. In production, a Beat in another container has its own.
        self.is_used = settings.DEBUG or path.exists()

    def hold(self) -> bool:
        if self._file is None:
            self._file = self._path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        if os.fstat(self._file.fileno()).st_nlink == 0:  # deleted: others would lock a new file
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class DatabaseLock:
    """A lock for processes of several machines, which belongs to a database session.

    PostgreSQL calls it an advisory lock, MySQL and MariaDB a user-level lock. It is released when
    its session ends: at once when the holder exits, and within LEASE when the holder or its machine
    freezes.

    It does not work through a connection pooler that changes sessions between transactions, such as
    PgBouncer in transaction mode. A session of the pooler would keep the lock, and then two Beats
    or none hold it. Set BEAT_LOCK_DATABASE_URL to the database itself or to a pool in session mode.
    """

    # The session's idle timeout, and the query that takes the lock. The query also returns true in
    # a session that already has the lock, so it confirms the lock too.
    STATEMENTS: ClassVar = {
        "postgresql": (f"SET idle_session_timeout = '{LEASE}s'", "SELECT pg_try_advisory_lock(%s)"),
        "mysql": (f"SET SESSION wait_timeout = {LEASE}", "SELECT GET_LOCK(CONCAT('beat-', %s), 0)"),
    }

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        """Use a connection that nothing else uses."""
        options: dict[str, Any] = connection.settings_dict["OPTIONS"]
        options.pop("pool", None)  # close() has to end the session
        options.setdefault("connect_timeout", 5)
        self._connection = connection
        self._idle_timeout, self._query = self.STATEMENTS[connection.vendor]
        self._key = crc32(f"beat of {connection.settings_dict['NAME']}".encode())

    def hold(self) -> bool:
        try:
            is_new = self._connection.connection is None
            with self._connection.cursor() as cursor:
                if is_new:
                    cursor.execute(self._idle_timeout)
                cursor.execute(self._query, [self._key])
                (held,) = cursor.fetchone()
        except Error:
            self.release()
            raise
        return bool(held)

    def release(self) -> None:
        with suppress(Error):
            self._connection.close()


def for_file() -> Lock:
    """The lock for Beats that share the runtime directory of this machine."""
    return FileLock(settings.RUNTIME_DIR / "beat.lock")


def for_database() -> Lock:
    """The lock for Beats that share the database. On SQLite this is the lock of the machine."""
    if separate := getattr(settings, "BEAT_LOCK_DATABASE", None):
        connection = ConnectionHandler({DEFAULT_DB_ALIAS: separate})[DEFAULT_DB_ALIAS]
    else:
        connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor not in DatabaseLock.STATEMENTS:
        return for_file()
    return DatabaseLock(connection.copy())
