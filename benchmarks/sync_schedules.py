"""The time of `manage.py sync_schedules` with many declared schedules, on PostgreSQL.

uv run benchmarks/sync_schedules.py --rounds 5 --schedules 1000

`manage.py shell`, which runs nothing, shows how much of it is the start of Django. Needs
PostgreSQL: the benchmark starts a server of its own.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from worker_sides import ROOT, Side, new_project

sys.path.insert(0, str(ROOT / "template"))

from tests.faults.servers import PostgreSQL

DECLARED = """
from apps.pipeline.schedules import Crontab

SCHEDULES += [
    Schedule(
        name=f"Benchmark {{number}}",
        task="apps.pipeline.tasks.ping",
        when=Crontab(minute=str(number % 60)) if number % 2 else timedelta(hours=number % 48 + 1),
    )
    for number in range({count})
]
"""
DELETE = "from django_celery_beat.models import PeriodicTask as P; P.objects.all().delete()"
ROWS = "from django_celery_beat.models import PeriodicTask as P; print(P.objects.count())"


def timed(side: Side, *arguments: str) -> tuple[float, float, str]:
    """Seconds and seconds of CPU of a command of manage.py, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    output = side.manage(*arguments)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, output


def measure(side: Side, count: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        side.manage("shell", "--verbosity", "0", "--command", DELETE)
        for what in ("all are new", "none has changed"):
            rows.setdefault(what, []).append(timed(side, "sync_schedules")[:2])
        *figures, found = timed(side, "shell", "--verbosity", "0", "--command", ROWS)
        if int(found) < count:
            raise RuntimeError(f"{found.strip()} rows, and not {count}.")
        rows.setdefault("the start of Django", []).append((figures[0], figures[1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--schedules", type=int, default=1000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="schedules-") as name:
        root = Path(name)
        root.chmod(0o755)
        with PostgreSQL(root / "database") as database:
            # Nothing is sent, so no broker runs.
            side = new_project(root, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1")
            side.variables["DATABASE_URL"] = database.url
            with (side.directory / "apps" / "tasks" / "schedules.py").open("a") as file:
                file.write(DECLARED.format(count=options.schedules))
            side.manage("migrate", "--verbosity", "0")
            rows = measure(side, options.schedules, options.rounds)
    print(f"| {options.schedules} schedules | s | s of CPU |\n| --- | ---: | ---: |")
    for what, figures in rows.items():
        seconds, cpu = (median(column) for column in zip(*figures, strict=True))
        print(f"| {what} | {seconds:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
