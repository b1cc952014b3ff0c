"""The CPU time of a worker's health check, against `celery inspect ping`.

uv run benchmarks/health.py --rounds 20

Both check the same worker of a new project with its production settings, in turn. The CPU time is
that of the command, and with `inspect ping` that of the worker too, which has to answer.
The worker writes the heartbeat whether it is checked or not, so its CPU time while it is idle is
measured too, in turn with a worker of bare Celery. Needs Linux.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import redis
from worker import surroundings, wait_for
from worker_sides import ROOT, Side, cpu, new_project, server

INTERVAL = 30  # seconds between two checks
PER_HOUR = 3600 / INTERVAL


def used(side: Side, session: int, command: list[str]) -> tuple[float, float]:
    """Seconds of CPU of a command, and of the worker that it checks."""
    children, worker = resource.getrusage(resource.RUSAGE_CHILDREN), cpu(session)
    subprocess.run(
        command, cwd=side.directory, env=side.environment(), check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return own, cpu(session) - worker


def idle(side: Side, seconds: float, results: "redis.Redis", log: Path) -> float:
    """Seconds of CPU per hour of a worker without tasks."""
    results.flushall()
    side.client("publish", 1)
    with side.worker(log) as session:
        wait_for(results, 1, log)
        time.sleep(5)  # the start is over
        began, before = time.monotonic(), cpu(session)
        time.sleep(seconds)
        return 3600 * (cpu(session) - before) / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="of both checks")
    parser.add_argument("--idle", type=float, default=60, help="seconds for which workers are idle")
    options = parser.parse_args()
    with TemporaryDirectory() as name, server(Path(name) / "broker") as broker:
        root, log = Path(name), Path(name) / "worker.log"
        results = broker.removesuffix("0") + "1"
        ours = new_project(root, broker, results)
        urls = {"BROKER": broker, "RESULTS": results}
        bare = Side(ROOT / "benchmarks" / "bare", "tasks", "tasks", urls)
        checks = {
            "bin/heartbeat.py": [sys.executable, "-S", "bin/heartbeat.py", "worker"],
            "inspect ping": [sys.executable, "-m", "celery", "-A", "config", "inspect", "ping"],
        }
        found: dict[str, list[tuple[float, float]]] = {check: [] for check in checks}
        with redis.Redis.from_url(results) as client:
            ours.client("publish", 1)
            with ours.worker(log) as session:
                wait_for(client, 1, log)
                time.sleep(6)  # it has written its heartbeat
                for _ in range(options.rounds):
                    for check, command in checks.items():
                        found[check].append(used(ours, session, command))
            idles = {
                "this project": idle(ours, options.idle, client, log),
                "bare Celery": idle(bare, options.idle, client, log),
            }
            about = surroundings(client)
    print("| check | ms of CPU | of which the worker's | s of CPU per hour |")
    print("|---|---:|---:|---:|")
    for check, times in found.items():
        total, worker = median(map(sum, times)), median(answer for _, answer in times)
        hour = PER_HOUR * total
        print(f"| {check} | {1000 * total:.1f} | {1000 * worker:.1f} | {hour:.1f} |")
    print("\n| worker without tasks | s of CPU per hour |\n|---|---:|")
    for side, seconds in idles.items():
        print(f"| {side} | {seconds:.1f} |")
    loads = " ".join(f"{load:.0f}" for load in os.getloadavg())
    print(f"\nMedians of {options.rounds} checks, one every {INTERVAL} s; load {loads}; {about}")


if __name__ == "__main__":
    main()
