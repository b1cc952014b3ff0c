"""Sentry gets what its integration promises, from a worker and Beat in production settings."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.matrix import Cell, Servers
from support.probe_project import Project, production
from support.receiver import Receiver, receiving
from support.waiting import WAIT_TIMEOUT

SECRET = "hunter2-of-a-customer"

TASKS = """
@shared_task
def outer(word: str) -> None:
    inner.delay(word)
    raise LookupError("this shop is closed")

@shared_task
def inner(word: str) -> str:
    return word
"""
SCHEDULE = """
EACH = timedelta(minutes=1)
SCHEDULES += [Schedule(name="Each minute", task="apps.probe.tasks.inner", when=EACH, args=["x"])]
"""

Item = tuple[str, dict[str, Any]]  # the type of an item of an envelope, and its payload


class Sentry:
    """What a server got that Sentry's integration takes for Sentry."""

    def __init__(self, server: Receiver) -> None:
        self.server = server
        self.dsn = f"http://key@{server.host}/1"

    @property
    def items(self) -> list[Item]:
        return [item for body in [*self.server.bodies] for item in items(body)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.items if name == kind]


def items(envelope: bytes) -> Iterator[Item]:
    rest = envelope.partition(b"\n")[2]
    while rest:
        line, _, rest = rest.partition(b"\n")
        head = json.loads(line)
        length = head.get("length", rest.find(b"\n"))
        payload, rest = rest[:length], rest[length:].lstrip(b"\n")
        if head["type"] in ("event", "transaction", "check_in"):
            yield head["type"], json.loads(payload)


def spans(sentry: Sentry, op: str) -> list[dict[str, Any]]:
    return [span for one in sentry.of("transaction") for span in one["spans"] if span["op"] == op]


def is_complete(sentry: Sentry) -> bool:
    done = {one["status"] for one in sentry.of("check_in")} >= {"in_progress", "ok"}
    found = spans(sentry, "queue.publish") and spans(sentry, "queue.process")
    return bool(done and found and any(one.get("transaction") for one in sentry.of("event")))


@pytest.mark.live("redis-server")
def test_errors_check_ins_and_queues_reach_sentry(
    template: Path, tmp_path: Path, servers: Servers
) -> None:
    pytest.importorskip("sentry_sdk")
    cell = Cell("redis", "redis", "database", "sqlite")
    with receiving() as server:
        sentry = Sentry(server)
        project = Project(
            template,
            tmp_path / "project",
            cell,
            **servers.variables(cell),
            **production(tmp_path),
            SENTRY_DSN=sentry.dsn,
            SENTRY_TRACES_SAMPLE_RATE="1",
        )
        project.add("apps/probe/tasks.py", TASKS)
        project.add("apps/probe/schedules.py", SCHEDULE)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        send = f"from apps.probe.tasks import outer; outer.delay({SECRET!r})"
        project.run("python", "manage.py", "shell", "--verbosity", "0", "--command", send)
        with project.at_work():
            deadline = time.monotonic() + WAIT_TIMEOUT
            while not is_complete(sentry):
                assert time.monotonic() < deadline, {name for name, _ in sentry.items}
                time.sleep(0.5)
    # Without a transaction: redbeat, which only this environment has, fails when Beat starts.
    [error] = [one for one in sentry.of("event") if one.get("transaction")]
    [exception] = error["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("LookupError", "this shop is closed")
    assert error["transaction"] == "apps.probe.tasks.outer"
    assert SECRET not in json.dumps(sentry.items), "arguments stay here"

    begun, *_ = [one for one in sentry.of("check_in") if one["status"] == "in_progress"]
    assert begun["monitor_slug"] == "Each minute"
    schedule = begun["monitor_config"]["schedule"]
    assert schedule == {"type": "interval", "value": 1, "unit": "minute"}
    ended = [one["check_in_id"] for one in sentry.of("check_in") if one["status"] == "ok"]
    assert begun["check_in_id"] in ended

    published, *_ = spans(sentry, "queue.publish")
    assert published["data"]["messaging.destination.name"] == "celery"
    processed = [span["data"] for span in spans(sentry, "queue.process")]
    assert any(data["messaging.message.receive.latency"] >= 0 for data in processed)
