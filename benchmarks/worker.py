"""A generated project's worker against bare Celery at its defaults, on the same Redis, in turn.

uv run benchmarks/worker.py --rounds 5
uv run benchmarks/worker.py --django     against bare Celery in a bare Django project

Both run two processes at log level INFO, as their documentation starts them; the project has its
production settings. Where other work disturbs the machine, trust the CPU per task. Needs Linux.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import redis
from bare_django import start_project
from worker_sides import (
    PROCESSES,
    ROOT,
    TICK,
    TIMEOUT,
    Side,
    cpu,
    memory,
    new_project,
    server,
)

# Each figure's name, and how it is written.
ROWS = {
    "publish, tasks per second": "{:,.0f}",
    "publish, ms of CPU per task": "{:.3f}",
    "worker start to first task done, s": "{:.2f}",
    "drain, tasks per second": "{:,.0f}",
    "drain, ms of the worker's CPU per task": "{:.3f}",
    "end to end, tasks per second": "{:,.0f}",
    "latency of one task, p50, ms": "{:.2f}",
    "latency of one task, p95, ms": "{:.2f}",
    "memory of the worker (PSS), MiB": "{:.0f}",
}

Round = dict[str, float]  # the figures of one side in one round


def wait_for(results: "redis.Redis", count: int, log: Path) -> float:
    """Wait for so many results; give the time when they were there."""
    deadline = time.monotonic() + TIMEOUT
    while results.dbsize() < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} tasks are not done after {TIMEOUT} s:\n{log.read_text()}")
        time.sleep(0.005)
    return time.monotonic()


def measure(side: Side, tasks: int, results: "redis.Redis", log: Path) -> Round:
    results.flushall()
    sent = side.client("publish", tasks)
    queued = tasks + 1  # a client sends one before it measures
    began = time.monotonic()
    with side.worker(log) as session:
        first = wait_for(results, 1, log)
        wait_for(results, queued // 10, log)  # warm from here on
        drained_from, done_before, cpu_from = time.monotonic(), results.dbsize(), cpu(session)
        drained = wait_for(results, queued, log) - drained_from
        used = max(cpu(session) - cpu_from, TICK)
        results.flushdb()
        whole_way = side.client("publish", tasks)
        done = wait_for(results, queued, log)
        times = side.client("latency", max(20, tasks // 10))["times"]
        pss = memory(session)
    cuts = quantiles(times, n=20)
    measured = max(1, queued - done_before)
    figures = (
        tasks / sent["seconds"],
        1000 * sent["cpu"] / tasks,
        first - began,
        measured / drained,
        1000 * used / measured,
        tasks / (done - whole_way["began"]),
        1000 * cuts[9],
        1000 * cuts[18],
        pss,
    )
    return dict(zip(ROWS, figures, strict=True))


def sides(root: Path, broker: str, results: str, django: bool) -> dict[str, Side]:
    """A fresh copy of the project, and bare Celery."""
    urls = {"BROKER": broker, "RESULTS": results}
    bare = Side(ROOT / "benchmarks" / "bare", "tasks", "tasks", urls)
    if django:
        start_project(root / "django")
        urls["DJANGO_SETTINGS_MODULE"] = "shop.settings"
        bare = Side(root / "django", "shop", "shop.tasks", urls)
    return {
        "ours": new_project(root, broker, results),
        "bare": bare,
    }


def table(rounds: list[dict[str, Round]]) -> str:
    """Medians of the rounds, with the least and the greatest; ratios are of the same round."""
    head = ("measured", "this project", "bare Celery", "project / bare")
    lines = [head, ("---", "---:", "---:", "---:")]
    for row, form in ROWS.items():
        ours = [figures["ours"][row] for figures in rounds]
        bare = [figures["bare"][row] for figures in rounds]
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        cells = ((ours, form), (bare, form), (ratios, "{:.2f}"))
        lines.append((row, *(spread(figures, form) for figures, form in cells)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(figures: list[float], form: str) -> str:
    middle, least, most = (form.format(f(figures)) for f in (median, min, max))
    return f"{middle} ({least} to {most})" if len(figures) > 1 else middle


def surroundings(client: "redis.Redis") -> str:
    """The versions and the machine, without its name."""
    info = client.info("server")
    broker = next(
        f"{name} {info[key]}"
        for name, key in (("Valkey", "valkey_version"), ("Redis", "redis_version"))
        if key in info
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return (
        f"{os.cpu_count()} processors ({processor}), Python {platform.python_version()}, "
        f"{packages}; {broker}, append-only; {PROCESSES} processes for tasks; "
        f"{time.strftime('%Y-%m-%d')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=3000, help="for each measurement of a round")
    parser.add_argument("--django", action="store_true", help="bare Celery in a Django project")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name) / "broker") as broker:
        root, log = Path(name), Path(name) / "worker.log"
        results = broker.removesuffix("0") + "1"
        both = sides(root, broker, results, options.django)
        rounds = []
        with redis.Redis.from_url(results) as client:
            for turn in range(options.rounds):
                names = ("ours", "bare") if turn % 2 == 0 else ("bare", "ours")
                rounds.append({n: measure(both[n], options.tasks, client, log) for n in names})
                print(f"Round {turn + 1} of {options.rounds} is done.", file=sys.stderr)
            about = surroundings(client)
    medians = f"Medians of {options.rounds} rounds with {options.tasks:,} tasks that do nothing"
    print(f"{medians}, least and greatest in brackets.\n\n{table(rounds)}\n\n{about}")


if __name__ == "__main__":
    main()
