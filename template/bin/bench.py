"""Measures this project's worker on the embedded broker, with production settings: `just bench`.

It takes less than two minutes. The figures say what this machine does now. To compare two
versions or two settings, run it for each of them in turn, several times.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import redis

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from apps.pipeline.broker.embedded import end_with_parent, server  # noqa: E402

LAST_START = 60  # seconds after which no new round begins
TIMEOUT = 60  # seconds for each step
FIGURES = {
    "publish, tasks per second": "{:,.0f}",
    "worker start to the first result, s": "{:.2f}",
    "end to end, tasks per second": "{:,.0f}",
    "CPU of the worker per task, ms": "{:.2f}",
    "latency of one task, p50, ms": "{:.2f}",
    "latency of one task, p95, ms": "{:.2f}",
}


def configure(broker: str, directory: str) -> redis.Redis:
    """Set Django up with production settings. Return a client of the result backend."""
    results = broker.removesuffix("0") + "1"
    os.environ |= {
        "CELERY_BEAT_SCHEDULER": "file",
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": results,
        "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
        "DJANGO_ALLOWED_HOSTS": "localhost",
        "DJANGO_SECRET_KEY": "only-for-this-benchmark-fifty-characters-and-more",
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "LOG_LEVEL": "WARNING",
        "RUNTIME_DIR": directory,
        "TASK_OUTBOX": "off",
    }
    import django

    django.setup()
    return redis.Redis.from_url(results)


def log() -> Path:
    return Path(os.environ["RUNTIME_DIR"]) / "worker.log"


@contextmanager
def worker() -> Iterator[int]:
    """Run a worker with two processes. Yield the id of their session."""
    command = [sys.executable, "-m", "celery", "-q", "-A", "config", "worker", "-c", "2"]
    with log().open("wb") as file:
        process = subprocess.Popen(
            end_with_parent(command), cwd=PROJECT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what is left of it, and its watcher


def cpu(session: int) -> float:
    """Seconds of CPU of all processes of a session. Only Linux has the files."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            fields = file.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for(results: redis.Redis, count: int) -> None:
    """Wait until there are `count` results."""
    deadline = time.monotonic() + TIMEOUT
    while int(results.dbsize()) < count:  # type: ignore[arg-type]
        if time.monotonic() > deadline:
            sys.exit(f"{count} tasks were not done in {TIMEOUT} s:\n{log().read_text()}")
        time.sleep(0.002)


def publish(tasks: int) -> float:
    """Send tasks. Return the seconds that this took."""
    from apps.pipeline.tasks import ping

    began = time.perf_counter()
    for _ in range(tasks):
        ping.delay()
    return time.perf_counter() - began


def latencies(tasks: int) -> list[float]:
    """Milliseconds from sending a task to its result, for tasks that are sent one by one."""
    from apps.pipeline.tasks import ping

    times = []
    for _ in range(tasks):
        began = time.perf_counter()
        ping.delay().get(timeout=TIMEOUT)
        times.append(1000 * (time.perf_counter() - began))
    return times


def measure(results: redis.Redis, tasks: int) -> list[float]:
    """The figures of one round, in the order of FIGURES."""
    results.flushdb()
    rate = tasks / publish(tasks)
    began = time.perf_counter()
    with worker() as session:
        wait_for(results, 1)
        start = time.perf_counter() - began
        wait_for(results, tasks)
        results.flushdb()
        before, began = cpu(session), time.perf_counter()
        publish(tasks)
        wait_for(results, tasks)
        end_to_end = tasks / (time.perf_counter() - began)
        used = 1000 * (cpu(session) - before) / tasks
        cuts = quantiles(latencies(max(20, tasks // 10)), n=20)
    return [rate, start, end_to_end, used, cuts[9], cuts[18]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="for each figure of a round")
    options = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="bench-") as directory, server(Path(directory)) as broker:
        results, began = configure(broker, directory), time.monotonic()
        publish(10)  # connects, and imports what sending a task needs
        results.flushall()  # these tasks, which no worker has run
        for turn in range(options.rounds):
            if turn and time.monotonic() - began > LAST_START:
                break
            for name, figure in zip(FIGURES, measure(results, options.tasks), strict=True):
                found[name].append(figure)
    print("| measured | median | least | greatest |\n| --- | ---: | ---: | ---: |")
    for name, figures in found.items():
        cells = (FIGURES[name].format(f(figures)) for f in (median, min, max))
        print(f"| {name} | {' | '.join(cells)} |")
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    rounds = len(found["end to end, tasks per second"])
    print(
        f"\n{rounds} rounds of {options.tasks:,} tasks that do nothing, 2 processes, append-only; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {packages}"
    )


if __name__ == "__main__":
    main()
