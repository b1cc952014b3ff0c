"""Exit with 0 if a worker, or Beat, on this machine wrote a heartbeat in the last 30 s.

`python -S bin/heartbeat.py worker` takes some hundredths of a second of CPU time. `celery inspect
ping` takes a second each time.
"""

import os
import socket
import sys
import time
from pathlib import Path

STALE_AFTER = 30  # seconds, as in apps/pipeline/liveness/heartbeat.py


def main(role: str) -> bool:
    directory = Path(os.environ.get("RUNTIME_DIR") or "var")
    files = directory.glob(f"{role}@{socket.gethostname()}.*heartbeat")
    return any(time.time() - file.stat().st_mtime < STALE_AFTER for file in files)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
