"""The outbox and failed tasks on each database and broker, and a project without the outbox."""

import re
import sys
from pathlib import Path

import pytest

from support.matrix import Cell, Servers
from support.probe_project import Project
from support.stacks import free_port
from support.waiting import wait_until

TABLES = "from django.db import connection as it; print(*it.introspection.table_names())"


@pytest.mark.parametrize(
    "database",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.live("pg_ctl")),
        pytest.param("mysql", marks=pytest.mark.live("mariadbd")),
    ],
)
@pytest.mark.live("redis-server")
def test_the_outbox_works(template: Path, tmp_path: Path, servers: Servers, database: str) -> None:
    cell = Cell("redis", "redis", "database", database)
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))

    def tables(outbox: str) -> str:
        project.run("python", "manage.py", "migrate", "--verbosity", "0", TASK_OUTBOX=outbox)
        return project.run("python", "manage.py", "shell", "-v", "0", "-c", TABLES)

    assert "pipeline_outbox_message" not in tables("off")
    assert "pipeline_outbox_message" in tables("on")
    if database != "sqlite":  # the project's own suite uses it
        suite = "apps/pipeline/tests/test_outbox.py"
        # In MariaDB only root may create the test database.
        url = project.variables["DATABASE_URL"]
        if database == "mysql":
            url = f"mysql://root@127.0.0.1:{servers.mysql.port}/{url.rpartition('/')[2]}"
        report = project.run(sys.executable, "-m", "pytest", "-q", suite, DATABASE_URL=url)
        assert re.search(r"^\d+ passed", report, re.MULTILINE)  # a warning can follow
        assert "skipped" not in report


SEND = """
from django.db import transaction
from apps.probe.tasks import add, nap
with transaction.atomic():
    committed = nap.delay(0), nap.apply_async((0,), countdown=1)
    add.delay(1, "fails")
with transaction.atomic():
    print(*committed, nap.delay(0))
    transaction.set_rollback(True)
"""
COUNT = """
from apps.pipeline.failed.models import FailedTask
from apps.pipeline.outbox.models import Message
print(FailedTask.objects.filter(name="apps.probe.tasks.add").count(), Message.objects.count())
"""


@pytest.mark.parametrize(
    "broker",
    [
        pytest.param("sentinel", marks=pytest.mark.live("redis-server")),
        pytest.param("amqp", marks=pytest.mark.live("rabbitmq-server")),
        pytest.param("sqs", marks=pytest.mark.live),
    ],
)
def test_what_was_committed_runs_and_what_failed_is_kept(
    template: Path, tmp_path: Path, servers: Servers, broker: str
) -> None:
    cell = Cell(broker, "none", "file", "sqlite")
    variables = servers.variables(cell) | {"TASK_OUTBOX": "on"}
    project = Project(template, tmp_path / "project", cell, **variables)
    project.run("python", "manage.py", "migrate", "--verbosity", "0")

    def printed(code: str) -> list[str]:
        """The words of the last line. Warnings of the log come before it."""
        command = ("python", "manage.py", "shell", "--verbosity", "0", "--command", code)
        return project.run(*command).splitlines()[-1].split()

    closed = f":{free_port()}"
    away = {name: re.sub(r":\d+\b", closed, value) for name, value in variables.items()}
    *sent, rolled_back = printed(SEND)
    project.variables |= away
    *kept, rolled_back_too = printed(SEND)  # no error
    project.variables |= variables
    assert printed(COUNT) == ["0", "3"]
    with project.at_work():
        wait_until(lambda: project.done() >= {*sent, *kept}, "what was committed")
        wait_until(lambda: printed(COUNT) == ["2", "0"], "the failed tasks")
    assert not project.done() & {rolled_back, rolled_back_too}
