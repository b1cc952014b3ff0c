"""The outbox on each database, and a project that does not turn it on."""

import re
import sys
from pathlib import Path

import pytest

from support.matrix import Cell, Servers
from support.probe_project import Project

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
