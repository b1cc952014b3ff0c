"""Flower shows the workers and the tasks of a project, and stays closed without the password."""

import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from support.matrix import Cell, Servers
from support.probe_project import Project
from support.stacks import free_port
from support.waiting import WAIT_TIMEOUT

SEND = "from apps.probe.tasks import add; print(add.delay(20, 22).id)"


class Watched(Project):
    monitoring: ClassVar[list[str]] = ["flower"]


@pytest.mark.live("redis-server", "rabbitmq-server")
@pytest.mark.parametrize("broker", ["redis", "amqp"])
def test_flower_shows_workers_and_tasks(
    template: Path, tmp_path: Path, servers: Servers, broker: str
) -> None:
    cell = Cell(broker, "redis://results.example.com:6379/3", "file", "sqlite")
    port = free_port()
    project = Watched(
        template,
        tmp_path / "project",
        cell,
        **servers.variables(cell),
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
        FLOWER_BASIC_AUTH="name:password",
        FLOWER_PORT=str(port),
    )
    project.run("python", "manage.py", "migrate", "--verbosity", "0")

    def ask(path: str, *who: str) -> tuple[int, Any]:
        try:
            answer = requests.get(f"http://127.0.0.1:{port}{path}", auth=who or None, timeout=30)  # type: ignore[arg-type]
        except requests.RequestException:
            return 0, None
        return answer.status_code, answer.json() if answer.ok else None

    with (
        project.started("celery", "-A", "config", "worker", "-l", "info"),
        project.started("celery", "-A", "config", "flower"),
    ):
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not ask("/api/workers?refresh=1", "name", "password")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        command = ("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
        task = project.run(*command).split()[-1]
        state = ""
        while state != "SUCCESS":
            assert time.monotonic() < deadline
            time.sleep(0.2)
            state = (ask(f"/api/task/info/{task}", "name", "password")[1] or {}).get("state", "")
        assert ask("/api/workers")[0] == 401
        assert ask("/api/workers", "name", "wrong")[0] == 401
