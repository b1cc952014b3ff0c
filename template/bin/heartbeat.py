"""Exit with 0 if a worker, or Beat, on this machine wrote a heartbeat in the last 30 s.

`python -S bin/heartbeat.py worker` takes a hundredth of a second of CPU time, and `celery inspect
ping` takes a second. To import `pathlib` and `socket` would take longer than the check.
"""

import os
import sys
import time

STALE_AFTER = 30  # seconds, as in apps/pipeline/liveness/heartbeat.py


def main(role: str) -> bool:
    start = f"{role}@{os.uname().nodename}."
    with os.scandir(os.environ.get("RUNTIME_DIR") or "var") as files:
        return any(
            time.time() - file.stat().st_mtime < STALE_AFTER
            for file in files
            if file.name.startswith(start) and file.name.endswith("heartbeat")
        )


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
