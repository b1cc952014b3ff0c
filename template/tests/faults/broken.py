"""Processes that run but do not work. All are broken at once, because a check takes a minute."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.harness import APP, Supervised, System
from tests.faults.servers import PostgreSQL, Server

NOTICED_WITHIN = 90  # seconds; 60 on a machine that is not busy
ENDED_WITHIN = 120


class BrokenProcess:
    """A broken process, and the time until the health check notices the failure."""

    def __init__(self, system: System, process: Supervised, role: str) -> None:
        self.system, self.process, self.role = system, process, role
        self.since = time.monotonic()
        self.noticed: float | None = None  # seconds after it was broken
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.noticed is None and time.monotonic() - self.since < ENDED_WITHIN:
            time.sleep(0.5)
            if not self.process.is_healthy(self.role):
                self.noticed = time.monotonic() - self.since

    @property
    def ended(self) -> float | None:
        """Seconds until the process exited."""
        return self.process.exits[0][0] - self.since if self.process.exits else None


BrokenProcesses = dict[str, BrokenProcess | str]
"""The processes by their failures. A text is the reason why a process is missing."""


@contextmanager
def start_broken(broker: Server) -> Iterator[BrokenProcesses]:
    """Start five processes, and break each in another way."""
    with ExitStack() as stack:
        frozen, hung, idle = (stack.enter_context(System(broker)) for _ in range(3))
        systems = [frozen, hung, idle]
        for system in systems:
            system.worker()
        frozen.beat()
        processes: BrokenProcesses = {}
        try:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="faults-")))
            directory.chmod(0o755)
            database = stack.enter_context(PostgreSQL(directory / "database"))
        except pytest.skip.Exception as missing:
            processes["a Beat without its database"] = str(missing)
        else:
            alone = stack.enter_context(System(broker, database=database))
            alone.beat()
            systems.append(alone)
        for system in systems:
            system.wait_ready()

        def add(name: str, system: System, role: str = "worker") -> None:
            processes[name] = BrokenProcess(system, system.processes[role], role)

        frozen.processes["worker"].send(signal.SIGSTOP)
        add("a frozen worker", frozen)
        frozen.processes["beat"].send(signal.SIGSTOP)
        add("a frozen Beat", frozen, "beat")
        hung.app.control.broadcast("hang", destination=[hung.node()])
        add("a hung worker", hung)
        idle.app.control.broadcast("stop_consuming", destination=[idle.node()])
        for number in range(5):
            idle.app.send_task(f"{APP}.tasks.work", [number])
        add("a worker that takes no messages", idle)
        if len(systems) > 3:
            database.end(signal.SIGINT)
            add("a Beat without its database", alone, "beat")
        yield processes
