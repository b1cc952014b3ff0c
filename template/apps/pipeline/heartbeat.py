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


def beat(role: str) -> None:
    """Say that this machine's process of that role, `worker` or `beat`, is alive now."""
    _file(role).touch()


def stop(role: str) -> None:
    """Say that it has stopped, so that nobody waits for its file to grow old."""
    _file(role).unlink(missing_ok=True)


def age(role: str) -> float | None:
    """Seconds since the latest heartbeat of that role that can be seen here; None without one."""
    times = [file.stat().st_mtime for file in settings.RUNTIME_DIR.glob(f"{role}@*.heartbeat")]
    return max(0.0, time.time() - max(times)) if times else None
