"""The time from nothing to the first finished task, against Django and Celery by their first steps.

uv run benchmarks/first_task.py --rounds 5
uv run benchmarks/first_task.py --cold        with an empty cache of uv: downloads all packages

This project: `copier copy`, `uv sync`, `just dev` with a broker of its own. The other: `uv pip
install`, `startproject`, a worker, on a broker that runs before. A client imports the tasks, sends
one until the broker accepts it, and waits for its result.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bare_django import start_project
from worker_sides import ROOT, running, server

PACKAGES = ["django~=5.2.0", "celery[redis]"]
# The client. `just dev` writes the address of its broker to a file.
CLIENT = """
import sys, time
from pathlib import Path
while len(sys.argv) > 1 and not Path(sys.argv[1]).exists():
    time.sleep(0.02)
import django
django.setup()
from {module} import ping
ping.delay().get(timeout=60)
"""


class Stopwatch:
    """The seconds of each step."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.began = time.monotonic()

    def __call__(self, step: str) -> None:
        now = time.monotonic()
        self.steps[step] = now - self.began
        self.began = now


def run(*command: str | Path, cwd: Path, environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)


def ours(root: Path, environment: dict[str, str]) -> dict[str, float]:
    """The seconds of each step, with a broker that `just dev` starts."""
    lap, project = Stopwatch(), root / "project"
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"]
    run(*copy, ROOT, project, cwd=root, environment=environment)
    lap("copy")
    run("uv", "sync", "--quiet", cwd=project, environment=environment)
    lap("install")
    environment |= {"DJANGO_SETTINGS_MODULE": "config.settings.local"}
    client = CLIENT.format(module="apps.pipeline.tasks")
    python = project / ".venv" / "bin" / "python"
    with running(["just", "dev"], project, environment, root / "dev.log"):
        run(python, "-c", client, "var/dev.env", cwd=project, environment=environment)
        lap("start and first task")
    return lap.steps


def bare(root: Path, environment: dict[str, str]) -> dict[str, float]:
    """The seconds of each step, with a broker that runs."""
    lap, project = Stopwatch(), root / "project"
    run("uv", "venv", "--quiet", "venv", cwd=root, environment=environment)
    environment |= {"VIRTUAL_ENV": str(root / "venv")}
    run("uv", "pip", "install", "--quiet", *PACKAGES, cwd=root, environment=environment)
    lap("install")
    python = str(root / "venv" / "bin" / "python")
    start_project(project, python)
    lap("copy")
    environment |= {"DJANGO_SETTINGS_MODULE": "shop.settings"}
    worker = [python, "-m", "celery", "-A", "shop", "worker"]
    with running(worker, project, environment, root / "worker.log"):
        client = CLIENT.format(module="shop.tasks")
        run(python, "-c", client, cwd=project, environment=environment)
        lap("start and first task")
    return lap.steps


def measure(side: Any, broker: str, cache: Path) -> dict[str, float]:
    """The seconds of each step in a new directory, whose venv is not on PATH yet."""
    inherited = ("VIRTUAL_ENV", "PYTHONPATH", "DJANGO_SETTINGS_MODULE")
    environment = {name: text for name, text in os.environ.items() if name not in inherited}
    with TemporaryDirectory() as name:
        environment |= {"UV_CACHE_DIR": str(cache), "BROKER": broker, "RESULTS": broker}
        return side(Path(name), environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="empty the cache of uv each time")
    options = parser.parse_args()
    sides = {"this project": ours, "Django and Celery": bare}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    with TemporaryDirectory() as name, server(Path(name) / "broker") as broker:
        caches = Path(name) / "caches"
        if not options.cold:
            for side in sides.values():
                measure(side, broker, caches)
        for turn in range(options.rounds):
            for name, side in list(sides.items())[:: -1 if turn % 2 else 1]:
                cache = caches / f"{name} {turn}" if options.cold else caches
                found[name].append(measure(side, broker, cache))
                print(f"Round {turn + 1}: {name}: {found[name][-1]}", file=sys.stderr)
    totals = {name: [sum(steps.values()) for steps in rounds] for name, rounds in found.items()}
    print(
        f"| s, {'cold' if options.cold else 'warm'} cache | {' | '.join(sides)} |\n|---|---:|---:|"
    )
    for step in ("copy", "install", "start and first task"):
        cells = (f"{median(steps[step] for steps in rounds):.1f}" for rounds in found.values())
        print(f"| {step} | {' | '.join(cells)} |")
    print(f"| all | {' | '.join(f'{median(total):.1f}' for total in totals.values())} |")
    ratios = [one / other for one, other in zip(*totals.values(), strict=True)]
    print(f"\nRatio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), ", end="")
    loads = " ".join(f"{load:.0f}" for load in os.getloadavg())
    print(f"{options.rounds} rounds in turn; load {loads}; {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
