"""A file per process whose age says when its event loop last came round."""

import socket
import time
from pathlib import Path

from django.conf import settings

# Seconds between two heartbeats, and the age from which a process counts as stuck. A worker is
# busy with its own start and its broker for some seconds; six heartbeats missed are not that.
INTERVAL = 5
STALE_AFTER = 30


def _file(role: str) -> Path:
    directory: Path = settings.RUNTIME_DIR
    return directory / f"{role}@{socket.gethostname()}.heartbeat"


def beat(role: str, words: str = "") -> None:
    """Say that this machine's process of that role, `worker` or `beat`, is alive now.

    The words are kept beside it; a worker says which queues it takes from, a line each.
    """
    _file(role).write_text(words)


def stop(role: str) -> None:
    """Say that it has stopped, so that nobody waits for its file to grow old."""
    _file(role).unlink(missing_ok=True)


def age(role: str) -> float | None:
    """Seconds since the latest heartbeat of that role that can be seen here; None without one."""
    times = [file.stat().st_mtime for file in settings.RUNTIME_DIR.glob(f"{role}@*.heartbeat")]
    return max(0.0, time.time() - max(times)) if times else None


def words(role: str) -> set[str]:
    """The lines that living processes of that role left, as far as they can be seen here."""
    files = settings.RUNTIME_DIR.glob(f"{role}@*.heartbeat")
    alive = [file for file in files if time.time() - file.stat().st_mtime < STALE_AFTER]
    return {line for file in alive for line in file.read_text().splitlines()}
