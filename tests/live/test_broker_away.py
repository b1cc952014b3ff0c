"""`just dev` while its broker stops and starts: nothing is logged at CRITICAL, and it recovers."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

import pytest

from support.projects import environment
from support.rendering import render
from support.stacks import Stack, has_run
from support.tutorial_steps import WAIT_TIMEOUT, Terminal
from support.waiting import wait_until
from tests.faults.servers import RabbitMQ, Server, Valkey

TASKS = """
import time

from celery import shared_task
from django.conf import settings


@shared_task
def answer_slowly(words):
    while (settings.BASE_DIR / "var" / "busy").exists():
        time.sleep(0.1)
    return f"Processed: {words}"


@shared_task
def tick():
    return "tick"
"""
SETTINGS = """
INSTALLED_APPS += ["apps.slow"]
LANDING_TASK = "apps.slow.tasks.answer_slowly"
CELERY_BEAT_SCHEDULE = {"tick": {"task": "apps.slow.tasks.tick", "schedule": 1.0}}
"""
BROKERS = [
    pytest.param(Valkey, id="redis"),
    pytest.param(RabbitMQ, id="rabbitmq", marks=pytest.mark.live("rabbitmq-server")),
]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with request.param(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    project = render(template, tmp_path / "project")
    app, settings = project / "apps/slow", project / "config/settings/project.py"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text(TASKS)
    settings.write_text(settings.read_text() + SETTINGS)
    return project


def test_nothing_is_critical_and_all_goes_on_once_it_is_back(project: Path, broker: Server) -> None:
    stack = Stack(project)
    backend = "redis" if broker.url.startswith("redis") else "rpc"
    variables = {"CELERY_BROKER_URL": broker.url, "CELERY_RESULT_BACKEND": backend}
    variables |= {"PORT": str(stack.port), "PYTHONUNBUFFERED": "1"}
    dev = Terminal("just dev", project, environment(**variables), project.parent / "dev.log")

    def log() -> str:
        return dev.log.read_text(encoding="utf-8", errors="replace")

    def works() -> bool:
        try:
            return has_run(stack.press_the_button())
        except OSError:  # the server has not started yet
            return False

    try:
        dev.expect(["...celery@... ready.", "...leads: it sends due tasks"])
        wait_until(works, "the page runs a task")
        seen = log().count("answer_slowly")
        busy = project / "var" / "busy"
        busy.touch()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(stack.press_the_button)
            wait_until(lambda: log().count("answer_slowly") > seen, "a worker has it")
            broker.end()
            assert not has_run(waiting.result(WAIT_TIMEOUT))
        busy.unlink()
        assert ">down<" in stack.open("/")[1]
        with pytest.raises(HTTPError, match="503"):
            stack.open("/readyz")
        gone = re.compile(r"worker +\|.*[Cc]onnection to broker lost")
        wait_until(lambda: gone.search(log()), "the worker notices")
        time.sleep(10)  # meanwhile Beat tries several times to send a task

        broker.start()
        ticks = log().count("tasks.tick[")
        wait_until(works, "the page runs a task again")
        wait_until(lambda: log().count("tasks.tick[") > ticks, "Beat sends again")
        assert dev.process.poll() is None, "no process had to end"
        assert "CRITICAL" not in log()
        assert "must be restarted" not in log()
    finally:
        dev.close()
        print(log()[-6000:])
