"""Measures a worker at full load, in turn with the status page closed and open.

uv run benchmarks/page.py --rounds 5

The page asks every 2.5 s, as in a browser. Needs Linux.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import redis
from worker import wait_for
from worker_sides import TICK, TIMEOUT, Side, cpu, new_project, running, server

PAUSE = 2.5  # seconds, as in static/pipeline/page.js
ROWS = ("tasks per second", "ms of the worker's CPU per task", "the page's answer, ms")


def project(root: Path, broker: str) -> Side:
    """A new project with its local settings."""
    side = new_project(root, broker, broker.removesuffix("0") + "1", "local")
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=side.directory, env=side.environment(), check=True)
    return side


@contextmanager
def web(side: Side, log: Path) -> Iterator[str]:
    """Serve the page. Give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with running(command, side.directory, side.environment(), log):
        address = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                urllib.request.urlopen(address + "healthz").close()  # noqa: S310
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield address


@contextmanager
def opened(address: str) -> Iterator[list[float]]:
    """Keep the page open, as a browser does. Give the milliseconds of its answers."""
    answers: list[float] = []
    closed = threading.Event()

    def watch() -> None:
        while not closed.is_set():
            began = time.monotonic()
            with urllib.request.urlopen(address + "?live", timeout=TIMEOUT) as page:  # noqa: S310
                page.read()
            answers.append(1000 * (time.monotonic() - began))
            closed.wait(PAUSE)

    browser = threading.Thread(target=watch)
    browser.start()
    try:
        yield answers
    finally:
        closed.set()
        browser.join()


def drain(side: Side, count: int, results: "redis.Redis", log: Path) -> tuple[float, float]:
    """Tasks per second, and milliseconds of the worker's CPU per task."""
    results.flushall()
    side.client("publish", count)
    with side.worker(log) as session:
        wait_for(results, count // 10, log)
        began, before, used = time.monotonic(), results.dbsize(), cpu(session)
        seconds = wait_for(results, count, log) - began
        used = max(cpu(session) - used, TICK)
    measured = max(1, count - before)
    return measured / seconds, 1000 * used / measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    closed, watched, ratios = [], [], []
    with tempfile.TemporaryDirectory() as name, server(Path(name) / "broker") as broker:
        root, log = Path(name), Path(name) / "worker.log"
        side = project(root, broker)
        with (
            redis.Redis.from_url(side.variables["CELERY_RESULT_BACKEND"]) as results,
            web(side, root / "web.log") as address,
        ):
            for turn in range(options.rounds):
                for is_open in (False, True) if turn % 2 == 0 else (True, False):
                    if is_open:
                        with opened(address) as answers:
                            figures = drain(side, options.tasks, results, log)
                        watched.append((*figures, median(answers)))
                    else:
                        closed.append(drain(side, options.tasks, results, log))
                pairs = zip(watched[-1], closed[-1], strict=False)
                ratios.append([one / other for one, other in pairs])
                print(f"Round {turn + 1} of {options.rounds} is done.", file=sys.stderr)
    print("| measured | page closed | page open | open / closed |\n| --- | ---: | ---: | ---: |")
    for row, name in enumerate(ROWS):
        is_open = f"{median(figures[row] for figures in watched):,.2f}"
        shut, ratio = "", ""
        if row < len(ROWS) - 1:
            shut = f"{median(figures[row] for figures in closed):,.2f}"
            ratio = f"{median(figures[row] for figures in ratios):.2f}"
        print(f"| {name} | {shut} | {is_open} | {ratio} |")


if __name__ == "__main__":
    main()
