"""Heartbeats. Each process writes a file, and the age of the file shows whether it works."""

import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

# Seconds between two heartbeats, and the age after which a process counts as stuck. That age is six
# intervals, because a worker can miss some heartbeats when it starts or reconnects.
INTERVAL = 5
STALE_AFTER = 30


def _file(role: str, node: str) -> Path:
    directory: Path = settings.RUNTIME_DIR
    parts = [f"{role}@{socket.gethostname()}", quote(node, safe="@"), "heartbeat"]
    return directory / ".".join(filter(None, parts))


def write(role: str, lines: str = "", *, node: str = "") -> None:
    """Write the heartbeat of a role, `worker` or `beat`, on this machine.

    A worker passes its node name, because a machine can have several workers, and a line for each
    queue that it consumes.
    """
    _file(role, node).write_text(lines)


def delete(role: str, *, node: str = "") -> None:
    """Delete the heartbeat of a process that has stopped."""
    _file(role, node).unlink(missing_ok=True)


def age(role: str) -> float | None:
    """Seconds since the latest heartbeat of a role on this machine; None if there is none."""
    times = _times(role).values()
    return max(0.0, time.time() - max(times)) if times else None


def lines(role: str) -> set[str]:
    """The lines in the recent heartbeats of a role on this machine."""
    found: set[str] = set()
    for file, written_at in _times(role).items():
        if time.time() - written_at < STALE_AFTER:
            with suppress(FileNotFoundError):  # the process has just stopped
                found.update(file.read_text().splitlines())
    return found


def _times(role: str) -> dict[Path, float]:
    """When each heartbeat of a role on this machine was written."""
    times = {}
    for file in settings.RUNTIME_DIR.glob(f"{role}@*.heartbeat"):
        with suppress(FileNotFoundError):
            times[file] = file.stat().st_mtime
    return times
