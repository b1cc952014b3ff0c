"""Beat with many schedules in PostgreSQL, against the schedulers of django-celery-beat and redbeat.

uv run benchmarks/beat.py --rounds 5
uv run benchmarks/beat.py --rows 100000
uv run benchmarks/beat.py --against redbeat

Both run in turn, in the same Django project with its production settings: only the scheduler
differs. Half of the rows have an interval, and half a crontab. These rows are not due.
20 more rows are due every five seconds, and one is overdue when Beat starts. Needs Linux, and a
PostgreSQL that can be started: the benchmark has servers of its own.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import redis

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
sys.path.insert(0, str(TEMPLATE))

from apps.pipeline.broker.embedded import end_with_parent  # noqa: E402
from tests.faults.servers import PostgreSQL, Valkey  # noqa: E402

OURS = "this project"
SCHEDULERS = {
    OURS: "apps.pipeline.beat.database.DatabaseScheduler",
    "django-celery-beat": "django_celery_beat.schedulers.DatabaseScheduler",
    "redbeat": "redbeat.RedBeatScheduler",
}
ROWS = {
    "start to the first due message, s": "{:.1f}",
    "idle, s of CPU per minute": "{:.2f}",
    "idle, transactions per minute": "{:.0f}",
    "20 due every 5 s, s of CPU per minute": "{:.2f}",
    "20 due every 5 s, transactions per minute": "{:.0f}",
    "lateness, p95, s": "{:.2f}",
    "an edit takes effect after, s": "{:.1f}",
    "lateness while a row is edited every 2 s, p95, s": "{:.2f}",
    "memory (PSS), MiB": "{:.0f}",
}
EVERY = 5  # seconds between two runs of a row that is due often
OFTEN = [f"often {number}" for number in range(20)]  # such rows
LONG = range(24, 48)  # hours between two runs of the other rows
TIMEOUT = 180  # seconds for a step
TICK = os.sysconf("SC_CLK_TCK")

FILL = """
INSERT INTO django_celery_beat_periodictask (name, task, {kind}_id, args, kwargs, headers, one_off,
    enabled, last_run_at, total_run_count, date_changed, description)
SELECT '{kind} ' || n, 'bench.none', (SELECT min(id) FROM django_celery_beat_{kind}schedule)
    + n %% (SELECT count(*) FROM django_celery_beat_{kind}schedule), '[]', '{{}}', '{{}}', false,
    true, now(), 0, now() - interval '1 day', ''
FROM generate_series(1, %s) AS n
"""


def start(stack: ExitStack) -> redis.Redis:
    """Start the servers, and Django."""
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="beat-")))
    directory.chmod(0o755)
    broker = stack.enter_context(Valkey(directory / "broker"))
    database = stack.enter_context(PostgreSQL(directory / "database")).url
    os.environ |= {
        "CELERY_BEAT_SCHEDULER": "database",
        "CELERY_BROKER_URL": broker.url,
        "CELERY_RESULT_BACKEND": broker.url,
        "DATABASE_URL": database,
        "DJANGO_ALLOWED_HOSTS": "localhost",
        "DJANGO_SECRET_KEY": "only-for-this-benchmark-fifty-characters-and-more",
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "RUNTIME_DIR": str(directory),
        "TIME_ZONE": "UTC",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    return redis.Redis.from_url(broker.url)


class Rows:
    """The schedules in the database."""

    def fill(self, count: int) -> None:
        """Write so many rows that are not due, and one that is overdue."""
        from django.db import connection
        from django.utils import timezone
        from django_celery_beat import models as tables

        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE django_celery_beat_periodictask RESTART IDENTITY CASCADE")
            for model in (tables.IntervalSchedule, tables.CrontabSchedule):
                cursor.execute(f"TRUNCATE {model._meta.db_table} RESTART IDENTITY CASCADE")
            tables.IntervalSchedule.objects.bulk_create(
                tables.IntervalSchedule(every=hours, period="hours") for hours in LONG
            )
            tables.CrontabSchedule.objects.bulk_create(
                tables.CrontabSchedule(minute=minute, hour=hour)
                for minute, hour in far_times(timezone.now().hour)
            )
            for kind in ("interval", "crontab"):
                cursor.execute(FILL.format(kind=kind), [count // 2])
            cursor.execute("ANALYZE django_celery_beat_periodictask")
        often = tables.IntervalSchedule.objects.create(every=EVERY, period="seconds")
        tables.PeriodicTask.objects.bulk_create(
            tables.PeriodicTask(name=name, task="bench.often", interval=often, enabled=False)
            for name in OFTEN
        )
        tables.PeriodicTask.objects.create(
            name="edited", task="bench.edited", interval=tables.IntervalSchedule.objects.first()
        )
        self.make_due()

    def make_due(self) -> None:
        from django.utils import timezone
        from django_celery_beat.models import PeriodicTask

        row = PeriodicTask.objects.get(name="edited")
        row.last_run_at = timezone.now() - timedelta(days=9)
        row.save()

    def start_often(self) -> None:
        from django_celery_beat.models import PeriodicTask, PeriodicTasks

        PeriodicTask.objects.filter(name__in=OFTEN).update(enabled=True)
        PeriodicTasks.update_changed()

    def edit(self) -> None:
        from django_celery_beat.models import PeriodicTask

        PeriodicTask.objects.get(name="edited").save()


class Entries:
    """The same schedules in Redis."""

    def entry(self, name: str, schedule: Any, last_run_at: datetime | None = None) -> Any:
        from celery import current_app
        from redbeat import RedBeatSchedulerEntry

        return RedBeatSchedulerEntry(
            name,
            "bench.none",
            schedule,
            options={"headers": {"periodic_task_name": name}},
            last_run_at=last_run_at or current_app.now(),
            app=current_app,
        )

    def fill(self, count: int) -> None:
        from celery import current_app
        from celery.schedules import crontab, schedule

        long = [schedule(timedelta(hours=hours)) for hours in LONG]
        far = [
            crontab(minute=minute, hour=hour) for minute, hour in far_times(current_app.now().hour)
        ]
        for number in range(count // 2):
            self.entry(f"interval {number}", long[number % len(long)]).save()
            self.entry(f"crontab {number}", far[number % len(far)]).save()
        self.make_due()

    def make_due(self) -> None:
        from celery import current_app
        from celery.schedules import schedule

        overdue = current_app.now() - timedelta(days=9)
        entry = self.entry("edited", schedule(timedelta(days=1)), overdue)
        entry.save().reschedule(overdue)

    def start_often(self) -> None:
        from celery.schedules import schedule

        for name in OFTEN:
            self.entry(name, schedule(timedelta(seconds=EVERY))).save()

    def edit(self) -> None:
        from celery.schedules import schedule

        self.entry("edited", schedule(timedelta(days=1))).save()


def far_times(hour: int) -> Iterator[tuple[str, str]]:
    """Minutes and hours of crontabs that are not due in the next two hours."""
    for minute in range(60):
        for more in range(20):
            yield str(minute), str((hour + 2 + more) % 24)


class Beat:
    """A Beat, and the messages that it sends."""

    def __init__(self, client: redis.Redis, scheduler: str, log: Path) -> None:
        self.client = client
        command = [sys.executable, "-m", "celery", "-A", "config", "beat", "-S", scheduler]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                end_with_parent([*command, "--pidfile=", "-l", "WARNING"]),
                cwd=TEMPLATE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def messages(self, until: float) -> Iterator[tuple[float, str]]:
        """The time and the name of the row of each message, until this time."""
        while (left := until - time.monotonic()) > 0:
            if taken := self.client.brpop(["celery"], timeout=max(0.05, min(left, 1))):
                message = json.loads(taken[1])
                yield time.monotonic(), message["headers"].get("periodic_task_name", "")

    def wait_for(self, name: str) -> float:
        """The time of the next message of this row."""
        for moment, found in self.messages(time.monotonic() + TIMEOUT):
            if found == name:
                return moment
        raise TimeoutError(f"Beat did not send {name!r} in {TIMEOUT} s")

    def fields(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return sum(int(field) for field in self.fields()[11:13]) / TICK

    def memory(self) -> float:
        """MiB of its own memory and its share of what it shares."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def running(client: redis.Redis, scheduler: str, log: Path) -> Iterator[Beat]:
    beat = Beat(client, scheduler, log)
    try:
        yield beat
    finally:
        beat.process.terminate()
        try:
            beat.process.wait(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(beat.process.pid, signal.SIGKILL)  # what is left of it, and its watcher


def transactions() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'")
        return int(cursor.fetchone()[0])


def lateness(beat: Beat, seconds: float, edit: Any = None) -> list[float]:
    """How late each run was after the one before it."""
    last: dict[str, float] = {}
    late, next_edit = [], time.monotonic()
    for moment, name in beat.messages(time.monotonic() + seconds):
        if edit and moment > next_edit:
            edit()
            next_edit = moment + 2
        if name.startswith("often"):
            if name in last:
                late.append(max(0.0, moment - last[name] - EVERY))
            last[name] = moment
    # a row that was not sent again is late, too
    late += [max(0.0, time.monotonic() - moment - EVERY) for moment in last.values()]
    return late or [seconds]


def rates(beat: Beat, action: Any) -> tuple[float, float, Any]:
    """Seconds of CPU and transactions per minute while it runs and 1.5 s later, and its result."""
    time.sleep(1.5)  # until PostgreSQL has counted what came before
    cpu, done, began = beat.cpu(), transactions(), time.monotonic()
    result = action()
    time.sleep(1.5)
    minutes = (time.monotonic() - began) / 60
    return (beat.cpu() - cpu) / minutes, (transactions() - done) / minutes, result


def measure(client: redis.Redis, side: str, rows: int, seconds: float, log: Path) -> list[float]:
    def p95(times: list[float]) -> float:
        return quantiles(times, n=20)[18] if len(times) > 1 else times[0]

    schedules = Entries() if side == "redbeat" else Rows()
    client.flushall()
    schedules.fill(rows)
    began = time.monotonic()
    with running(client, SCHEDULERS[side], log) as beat:
        first = beat.wait_for("edited") - began
        time.sleep(6)  # the first tick after the start is over
        idle_cpu, idle_queries, _ = rates(beat, lambda: time.sleep(seconds))
        schedules.start_often()
        beat.wait_for(OFTEN[-1])
        busy_cpu, busy_queries, late = rates(beat, lambda: lateness(beat, seconds))
        schedules.make_due()
        counts = -time.monotonic() + beat.wait_for("edited")
        late_with_edits = lateness(beat, seconds, schedules.edit)
        memory = beat.memory()
    return [
        first,
        idle_cpu,
        idle_queries,
        busy_cpu,
        busy_queries,
        p95(late),
        counts,
        p95(late_with_edits),
        memory,
    ]


def spread(figures: list[float], form: str) -> str:
    middle, least, most = (form.format(f(figures)) for f in (median, min, max))
    return f"{middle} ({least} to {most})" if len(figures) > 1 else middle


def table(found: dict[tuple[int, str], list[list[float]]], other: str) -> str:
    head = ("rows", "measured", OURS, other, f"project / {other}")
    lines = [head, ("---:", "---", "---:", "---:", "---:")]
    for rows in sorted({rows for rows, _ in found}):
        for place, (name, form) in enumerate(ROWS.items()):
            ours, others = (
                [figures[place] for figures in found[rows, side]] for side in (OURS, other)
            )
            ratios = [one / max(another, 0.001) for one, another in zip(ours, others, strict=True)]
            cells = (spread(ours, form), spread(others, form), spread(ratios, "{:.2f}"))
            lines.append((f"{rows:,}", name, *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 10_000])
    others = [name for name in SCHEDULERS if name != OURS]
    parser.add_argument("--against", choices=others, default=others[0])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    options = parser.parse_args()
    found: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    with ExitStack() as stack:
        client = start(stack)
        log = Path(os.environ["RUNTIME_DIR"]) / "beat.log"
        for turn in range(options.rounds):
            for rows in options.rows:
                for side in (OURS, options.against)[:: -1 if turn % 2 else 1]:
                    try:
                        figures = measure(client, side, rows, options.seconds, log)
                    except (TimeoutError, FileNotFoundError):
                        sys.exit(f"{side} with {rows} rows:\n{log.read_text()}")
                    found[rows, side].append(figures)
                    print(f"Round {turn + 1}: {side}, {rows} rows: {figures}", file=sys.stderr)
    packages = ("celery", "django-celery-beat", "celery-redbeat", "django", "psycopg")
    about = ", ".join(f"{name} {version(name)}" for name in packages)
    loads = " ".join(f"{load:.0f}" for load in os.getloadavg())
    print(f"{table(found, options.against)}\n")
    print(f"{options.rounds} rounds in turn; {os.cpu_count()} processors, ")
    print(f"load {loads} (1, 5 and 15 minutes); {about}; {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
