import json
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from celery.app import app_or_default
from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import connections

from apps.pipeline import checks, status
from apps.pipeline.status import Part

STEP = 10  # seconds until a step counts as one that does not answer
TRIP = 5  # seconds for a task to come back

TO_DO = {
    "configuration": "Change the settings or the environment; docs/checks.md explains each.",
    "database": "Start it, or correct DATABASE_URL.",
    "migrations": "Run `just migrate`.",
    "broker": "Start it, with everything else by `just dev`, or correct CELERY_BROKER_URL.",
    "worker": "Start one with `just dev`, `just up` or `celery -A config worker`; read its log.",
    "queues": "Start a worker that takes from it: one whose command names no queue takes from all.",
    "round trip": "Is a worker running, and is one of its processes free? Its log says more.",
    "Beat": "Start it with `just dev`, `just up` or `celery -A config beat`; read its log.",
    "schedules": "Run `just migrate`, which writes what the code declares.",
}
MARKS = {True: "✓", False: "✗", None: "-"}


@dataclass(frozen=True)
class Finding:
    """A part of the pipeline: whether it works (None: not asked), and what to do where not."""

    name: str
    ok: bool | None
    words: str
    to_do: str = ""


class Command(BaseCommand):
    help = "Walk the pipeline, from configuration to schedules, and say what to do where it fails."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        ok = all(finding.ok is not False for finding in findings)
        if options["json"]:
            report = {"ok": ok, "parts": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(report, indent=2))
        if not ok:
            raise SystemExit(1)

    def _show(self, finding: Finding) -> None:
        mark = MARKS[finding.ok]
        if finding.ok is not None:
            mark = self.style.SUCCESS(mark) if finding.ok else self.style.ERROR(mark)
        self.stdout.write(f"{mark} {finding.name}: {finding.words}")
        if finding.to_do:
            self.stdout.write(f"  → {finding.to_do}")


def examine() -> Iterator[Finding]:
    """Ask every part, in the order of a task's way; what depends on a part that is down is not."""
    yield from configuration()
    yield (database := ask("database", status.database))
    yield (migrations := ask("migrations", status.migrations, needs=database))
    yield (broker := ask("broker", status.broker))
    yield from worker(broker)
    yield beat(broker)
    in_database = apps.is_installed("django_celery_beat")
    yield ask("schedules", status.schedules, needs=migrations if in_database else None)


def configuration() -> list[Finding]:
    messages = checks.messages()
    errors = [checks.line(message) for message in messages if message.is_serious()]
    if errors:
        return [finding("configuration", False, error) for error in errors]
    warnings = "; ".join(checks.line(message) for message in messages)
    return [finding("configuration", True, warnings or "nothing wrong")]


def worker(broker: Finding) -> Iterator[Finding]:
    """A worker of another machine has no heartbeat here, but it answers."""
    queues = ask("queues", status.queues, needs=broker)
    trip = ask("round trip", lambda: status.round_trip(TRIP), needs=broker)
    seen = status.worker()
    words = seen.words
    if trip.ok and not seen.ok:
        words = "answers, though no heartbeat of it is seen on this machine"
    yield finding("worker", seen.ok or bool(trip.ok), words)
    yield queues
    yield trip


def beat(broker: Finding) -> Finding:
    """A Beat of another machine has no heartbeat here, but it holds the lock."""
    seen, lead = status.beat(), ask("Beat", status.leader, needs=broker)
    if lead.ok is None:
        return finding("Beat", seen.ok, seen.words)
    if lead.ok and not seen.ok and "silent" not in seen.words:
        return finding("Beat", True, "one leads, though no heartbeat is seen on this machine")
    return finding("Beat", seen.ok and bool(lead.ok), f"{seen.words}, {lead.words}")


def finding(name: str, ok: bool | None, words: str) -> Finding:
    return Finding(name, ok, words, TO_DO.get(name, "") if ok is False else "")


def ask(name: str, what: Callable[[], Part | None], *, needs: Finding | None = None) -> Finding:
    """The answer of a part, in a thread of its own: what hangs is left behind after STEP."""
    if needs and not needs.ok:
        return finding(name, None, f"not asked: the {needs.name} first")
    app = app_or_default()
    answers: list[Finding] = []

    def run() -> None:
        app.set_current()
        try:
            part = what()
        except Exception as error:  # a doctor reports whatever is wrong
            reason = str(error).strip().splitlines() or [""]
            answers.append(finding(name, False, f"{type(error).__name__}: {reason[0]}"))
        else:
            unset = finding(name, None, "not asked: the settings have none")
            answers.append(finding(name, part.ok, part.words) if part else unset)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(STEP)
    return answers[0] if answers else finding(name, False, f"no answer within {STEP} s")
