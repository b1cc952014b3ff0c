"""This project beside other task runners, on one machine, in turn.

uv run benchmarks/runners.py --rounds 5 --kills 20
uv run benchmarks/runners.py --only huey rq

Each runner has the settings that its documentation gives for tasks that must not be lost, and two
processes that run one task each. Installs each runner into a virtual environment of its own. Needs
Linux and PostgreSQL (for Procrastinate; `DATABASE_URL` names another than that of loopback).
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg
import redis
from worker_sides import ROOT, TICK, TIMEOUT, cpu, new_project, running, server

PARTS = ROOT / "benchmarks" / "runners"
POSTGRESQL = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
DATABASE = f"bench_runners_{os.getpid()}"  # created there, and dropped at the end
WAIT = 150  # seconds after a kill, in which the tasks of the dead worker have to run
KINDS = {"no-op": 0.0, "10 ms": 0.01, "1 s": 1.0}  # and how long each task takes, in seconds

Figures = dict[str, float]


@dataclass(frozen=True)
class Runner:
    """A task runner: what to install, the module that sends, and the commands of its workers."""

    packages: str
    module: str
    commands: tuple[str, ...]
    share: float = 1  # of the tasks that do nothing, for a runner that runs few per second
    directory: Path = PARTS
    variables: dict[str, str] = field(default_factory=dict)


CELERY = "-m celery -A {} worker --concurrency 2 --loglevel INFO"
RQ = '-m rq.cli worker --url "$BROKER" --maintenance-interval 10'
PROCRASTINATE = "-m procrastinate -a procrastinate_tasks.app worker --concurrency 1"
RUNNERS = {
    "bare Celery": Runner("", "bare_celery_tasks", (CELERY.format("bare_celery_tasks"),)),
    "Dramatiq": Runner(
        "dramatiq[redis]",
        "dramatiq_tasks",
        ("-m dramatiq dramatiq_tasks --processes 2 --threads 1",),
    ),
    "RQ": Runner("rq", "rq_tasks", (RQ, RQ), share=0.1),
    "Huey": Runner(
        "huey redis",
        "huey_tasks",
        ("-m huey.bin.huey_consumer huey_tasks.huey --workers 2 --worker-type process",),
    ),
    "Taskiq": Runner(
        "taskiq taskiq-redis",
        "taskiq_tasks",
        ("-m taskiq worker taskiq_tasks:broker --workers 2 --max-async-tasks 1",),
    ),
    "Procrastinate": Runner(
        "procrastinate psycopg[binary] redis", "procrastinate_tasks", (PROCRASTINATE,) * 2
    ),
}


class Bench:
    """One runner, installed, with a broker and a count of what ran."""

    def __init__(self, runner: Runner, root: Path, broker: str) -> None:
        self.runner, self.log = runner, root / "worker.log"
        self.runs = broker.removesuffix("0") + "1"
        self.redis = redis.Redis.from_url(self.runs)
        self.python = sys.executable
        if runner.packages:
            environment = root / runner.module
            self.python = str(environment / "bin" / "python")
            subprocess.run(["uv", "venv", "--quiet", environment], check=True)
            install = ["uv", "pip", "install", "--quiet", "--python", self.python]
            subprocess.run([*install, *runner.packages.split()], check=True)
        named = ("CELERY_", "DJANGO_")
        inherited = {key: word for key, word in os.environ.items() if not key.startswith(named)}
        database = psycopg.conninfo.make_conninfo(POSTGRESQL, dbname=DATABASE)
        urls = {"BROKER": broker, "RUNS": self.runs, "POSTGRESQL": database}
        self.variables = inherited | urls | {"PYTHONPATH": str(PARTS)} | runner.variables
        self.empty()

    def empty(self) -> None:
        """Delete what is queued and what was counted."""
        self.redis.flushall()
        if "procrastinate" in self.runner.module:
            drop_database()
            on_server(f"CREATE DATABASE {DATABASE}")
            schema = [self.python, "-m", "procrastinate", "-a", "procrastinate_tasks.app"]
            self._run([*schema, "schema", "--apply"])

    def send(self, count: int, seconds: float) -> Figures:
        client = [self.python, str(PARTS / "client.py"), self.runner.module]
        figures: Figures = json.loads(self._run([*client, str(count), str(seconds)]))
        return figures

    def _run(self, command: list[str]) -> str:
        return subprocess.run(
            command,
            cwd=self.runner.directory,
            env=self.variables,
            timeout=TIMEOUT,
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ).stdout

    @contextmanager
    def worker(self) -> Iterator[int]:
        """Run workers, and kill them at the end. Give the session that all processes are in."""
        commands = [f"{shlex.quote(self.python)} {each}" for each in self.runner.commands]
        shell = " & ".join(commands) + " & wait" if commands[1:] else f"exec {commands[0]}"
        command = ["sh", "-c", shell]
        with running(command, self.runner.directory, self.variables, self.log) as session:
            yield session
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)

    def done(self) -> int:
        """How many tasks ran at least once."""
        return int(self.redis.hlen("runs"))  # type: ignore[arg-type]

    def wait_for(self, count: int, seconds: float = TIMEOUT) -> bool:
        """Wait until so many tasks are done. Return False if they are not after these seconds."""
        deadline = time.monotonic() + seconds
        while self.done() < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def throughput(self, count: int, seconds: float) -> Figures:
        """Send tasks, and let a new worker run them all."""
        self.empty()
        sent = self.send(count, seconds)
        with self.worker() as session:
            if not self.wait_for(max(2, count // 10)):
                raise TimeoutError(self.log.read_text())
            began, done_before, cpu_began = time.monotonic(), self.done(), cpu(session)
            if not self.wait_for(count):
                raise TimeoutError(f"{self.done()} of {count}: {self.log.read_text()[-3000:]}")
            took, used = time.monotonic() - began, max(cpu(session) - cpu_began, TICK)
        measured = max(1, count - done_before)
        return {
            "sent per second": (count - 1) / sent["seconds"],
            "ms of CPU to send": 1000 * sent["cpu"] / (count - 1),
            "run per second": measured / took,
            "ms of CPU to run": 1000 * used / measured,
        }

    def kill(self, count: int, seconds: float, kills: int) -> Figures:
        """Kill the worker and all of its processes while it runs tasks, so many times."""
        self.empty()
        self.send(count, seconds)
        for _ in range(kills):
            before = self.done()
            with self.worker() as session:
                self.wait_for(min(before + 2, count))
                time.sleep(random.uniform(0, 0.5))  # noqa: S311
                os.killpg(session, signal.SIGKILL)
        killed, left = time.monotonic(), count - self.done()
        with self.worker():
            self.wait_for(count, WAIT)
            back = time.monotonic() - killed
        runs = [int(number) for number in self.redis.hvals("runs")]  # type: ignore[union-attr]
        return {
            "left": left,
            "lost": count - len(runs),
            "again": sum(runs) - len(runs),
            "seconds until all ran": back,
        }


def on_server(statement: str) -> None:
    with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
        connection.execute(statement)


def drop_database() -> None:
    on_server(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


@contextmanager
def benches(names: list[str]) -> Iterator[dict[str, Bench]]:
    """The runners of these names."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(server(root / "broker"))
        if "Procrastinate" in names:
            stack.callback(drop_database)
        runners = {"this project": project(root, broker)} | RUNNERS
        yield {name: Bench(runners[name], root, broker) for name in names}


def project(root: Path, broker: str) -> Runner:
    """A new project with the default answers and its production settings."""
    side = new_project(root, broker, "")
    command = CELERY.format("config") + " --include celery_tasks"
    return Runner("", "celery_tasks", (command,), 1, side.directory, side.variables)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speeds(all_benches: dict[str, Bench], rounds: int, tasks: int) -> str:
    """A table of the medians of all rounds, whose runners take turns."""
    counts = {"no-op": tasks, "10 ms": max(20, tasks // 5), "1 s": 10}
    seen: dict[str, list[tuple[Figures, ...]]] = {name: [] for name in all_benches}
    for turn in range(rounds):
        for name, bench in list(all_benches.items())[:: 1 if turn % 2 == 0 else -1]:
            few = counts | {"no-op": int(tasks * bench.runner.share)}
            figures = tuple(bench.throughput(few[kind], KINDS[kind]) for kind in KINDS)
            seen[name].append(figures)
            print(f"Round {turn + 1}, {name}: {figures}", file=sys.stderr)

    def middle(name: str, kind: int, key: str, form: str = "{:,.0f}") -> str:
        return form.format(median(figures[kind][key] for figures in seen[name]))

    rows = [
        (
            name,
            middle(name, 0, "sent per second"),
            middle(name, 0, "ms of CPU to send", "{:.2f}"),
            middle(name, 0, "run per second"),
            middle(name, 0, "ms of CPU to run", "{:.2f}"),
            middle(name, 1, "run per second"),
            middle(name, 2, "run per second", "{:.1f}"),
        )
        for name in all_benches
    ]
    head = ("runner", "sent/s", "ms of CPU to send", "no-op/s", "ms of CPU to run")
    return table((*head, "10 ms, of 200/s", "1 s, of 2/s"), rows)


def faults(all_benches: dict[str, Bench], kills: int, tasks: int) -> str:
    """A table of what was lost, and how long it took until all ran."""
    rows = []
    for name, bench in all_benches.items():
        rate = bench.throughput(int(tasks * bench.runner.share), 0)["run per second"]
        count = int(min(kills * (rate * 0.4 + 10), 30_000))
        busy, calm = bench.kill(count, 0, kills), bench.kill(200, 0.01, 1)
        print(f"{name}: {busy} {calm}", file=sys.stderr)
        back = f"{calm['seconds until all ran']:.0f}" if not calm["lost"] else f"not in {WAIT}"
        cells = (f"{count:,}", f"{busy['left']:,}", f"{busy['lost']:,}", f"{busy['again']:,}")
        rows.append((name, *cells, back))
    head = ("runner", "tasks", "left at the last kill", f"not run {WAIT} s later", "run twice")
    return table((*head, "200 tasks and one kill: seconds until all ran"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["this project", *RUNNERS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5, help="0 leaves the speeds out")
    parser.add_argument("--kills", type=int, default=20, help="0 leaves the kills out")
    parser.add_argument("--tasks", type=int, default=3000)
    options = parser.parse_args()
    with benches(options.only) as all_benches:
        if options.rounds:
            print(speeds(all_benches, options.rounds, options.tasks), end="\n\n", flush=True)
        if options.kills:
            print(faults(all_benches, options.kills, options.tasks))


if __name__ == "__main__":
    main()
