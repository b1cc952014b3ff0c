"""Run a command, and restart it when the code changes.

    python bin/reload.py celery -A config worker

On a change the command gets SIGTERM, as in a deploy, so that its tasks return to their queue. When
the command exits, this process exits too, and the restart policy starts both again. If a
container ran for less than 10 s, Docker doubles the pause before the next restart. So after a quick
failure this process waits for the next change of the code instead.

The command `watchfiles` keeps running when its command has exited, and stops it with SIGINT. Seen
in watchfiles 1.3.0 (watchfiles #205; SIGINT is not reported yet). Delete this once both are fixed.
"""

import signal
import subprocess
import sys
import time

from watchfiles import PythonFilter, watch

QUICK_FAILURE = 11  # seconds
STOP_LIMIT = 45  # seconds that a command has to exit, as stop_grace_period in compose.yaml


class Runner:
    """Runs the command until it exits or SIGTERM arrives, and restarts it after each change."""

    process: "subprocess.Popen[bytes] | None" = None
    stopping = False

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def stop(self, *_: object) -> None:
        self.stopping = True
        if self.process:
            self.process.terminate()

    def start(self) -> "subprocess.Popen[bytes]":
        self.started, self.process = time.monotonic(), subprocess.Popen(self.command)
        if self.stopping:  # SIGTERM arrived while it started
            self.process.terminate()
        return self.process

    def run(self) -> int:
        """Return the exit code of the command."""
        signal.signal(signal.SIGTERM, self.stop)
        watching = watch(
            "apps", "config", watch_filter=PythonFilter(), rust_timeout=500, yield_on_timeout=True
        )
        next(watching)  # begins to watch, so that no change is missed while the command starts
        process = self.start()
        for changes in watching:
            if changes and not self.stopping:
                self.end(process)
                if not self.stopping:
                    process = self.start()
            code, has_run = process.poll(), time.monotonic() - self.started
            if code is not None and (code == 0 or self.stopping or has_run > QUICK_FAILURE):
                return code
        return process.wait()

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Stop the command. Kill it if it does not exit, because it would run the old code."""
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    return Runner(sys.argv[1:]).run()


if __name__ == "__main__":
    sys.exit(main())
