"""Messages on SQS and RabbitMQ: how many wait, and how long a worker can hold one."""

import json
import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.matrix import Cell, Servers
from support.probe_project import Project
from support.servers import RabbitMQWithShortConsumerTimeout
from support.waiting import wait_until

SHORT_LEASES = """
from apps.pipeline.broker.sqs import lease as _lease

_lease.SECONDS, _lease.RENEW_AFTER, _lease.SEARCH_INTERVAL = {}, 3, 1
"""
QUEUE = """
from kombu import Queue

CELERY_TASK_QUEUES = [Queue("mail")]
"""
WORKER = ("celery", "-A", "config", "worker", "-l", "info", "--concurrency", "2")


class SQS(Project):
    """A project on SQS with its own queues, so that tests do not take each other's messages."""

    def __init__(self, servers: Servers, template: Path, directory: Path, lease: int = 15) -> None:
        cell = Cell("sqs", "none", "file", "sqlite")
        variables = servers.variables(cell) | {"KEY_PREFIX": f"{directory.name[-40:]}-"}
        super().__init__(template, directory / "project", cell, **variables)
        self.add("config/__init__.py", SHORT_LEASES.format(lease))
        self.run("python", "manage.py", "migrate", "--verbosity", "0")


class RabbitMQ(Project):
    def __init__(self, url: str, template: Path, directory: Path) -> None:
        cell = Cell("amqp", "none", "file", "sqlite")
        super().__init__(template, directory / "project", cell, CELERY_BROKER_URL=url)
        self.run("python", "manage.py", "migrate", "--verbosity", "0")


def shell(project: Project, code: str, runtime: Path | None = None) -> str:
    """The last line that this code prints. `runtime` is the directory of the heartbeats."""
    command = ("python", "manage.py", "shell", "--verbosity", "0", "--command", code)
    variables = {"RUNTIME_DIR": str(runtime)} if runtime else {}
    return project.run(*command, codes=(0,), **variables).splitlines()[-1]


def notes(project: Project) -> list[tuple[str, object]]:
    """The ids and results of the finished tasks, in their order."""
    file = Path(project.variables["PROBE_NOTES"])
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [(task_id, result) for task_id, _, result, _ in lines]


@pytest.mark.live
def test_on_sqs_a_task_and_a_countdown_of_several_leases_run_once(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    project = SQS(servers, template, tmp_path, lease=40)  # a request takes up to 30 s
    code = f"from apps.probe.tasks import echo, stay; print(stay.delay({str(tmp_path)!r}).id, "
    code += "echo.apply_async(['later'], countdown=90).id)"
    with (
        project.started(*WORKER, "--hostname", "a@x"),
        project.started(*WORKER, "--hostname", "b@x"),
    ):
        long, later = shell(project, code).split()
        wait_until(lambda: later in project.done(), "a task with a countdown")
        assert len([*tmp_path.glob("* runs")]) == 1
        (tmp_path / "a@x may end").touch()
        (tmp_path / "b@x may end").touch()
        wait_until(lambda: long in project.done(), "a long task")
    with project.started(*WORKER):
        last = shell(project, "from apps.probe.tasks import echo; print(echo.delay('').id)")
        wait_until(lambda: last in project.done(), "a task that was sent after them")
    assert [task_id for task_id, _ in notes(project)] == [later, long, last]


@pytest.mark.live
def test_on_sqs_a_worker_that_was_frozen_deletes_nothing_that_another_one_runs(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    """The SQS of the tests deletes a message by an old receipt handle. AWS may do so too."""
    project = SQS(servers, template, tmp_path)

    def does(worker: str) -> bool:
        return (tmp_path / f"{worker} runs").exists()

    def ended() -> list[object]:
        return [worker for _, worker in notes(project)]

    shell(project, f"from apps.probe.tasks import stay; print(stay.delay({str(tmp_path)!r}))")
    with project.started(*WORKER, "--hostname", "a@x") as frozen:
        wait_until(lambda: does("a@x"), "a worker that runs the task")
        os.killpg(frozen.pid, signal.SIGSTOP)
        try:
            killed = project.started(*WORKER, "--hostname", "b@x", code=-signal.SIGKILL)
            with killed as second:
                wait_until(lambda: does("b@x"), "another one")
                os.killpg(frozen.pid, signal.SIGCONT)
                (tmp_path / "a@x may end").touch()
                told = "another worker may have it"
                wait_until(lambda: told in project.log("worker"), "a refusal to delete")
                assert ended() == ["a@x"]
                os.killpg(second.pid, signal.SIGKILL)
        finally:
            os.killpg(frozen.pid, signal.SIGCONT)
    with project.started(*WORKER, "--hostname", "c@x"):
        wait_until(lambda: does("c@x"), "a third one")
        (tmp_path / "c@x may end").touch()
        wait_until(lambda: ended() == ["a@x", "c@x"], "its end")


SEND_MAIL = "from apps.probe.tasks import stay; print(stay.apply_async([{!r}], queue='mail').id)"
LOOK = "from apps.pipeline.status.queues import queues as q; print(q().ok, q().words)"


@pytest.mark.live
def test_on_sqs_a_queue_without_a_worker_is_red(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    project = SQS(servers, template, tmp_path)
    project.add("config/settings/project.py", QUEUE)
    assert shell(project, LOOK) == "True 0 waiting in celery; 0 waiting in mail"
    for _ in range(3):
        shell(project, SEND_MAIL.format(str(tmp_path)))
    unknown = ". Only CloudWatch knows the age of messages: ApproximateAgeOfOldestMessage."
    red = "0 waiting in celery; 3 waiting in mail, which probably no worker consumes"
    assert shell(project, LOOK) == f"False {red}{unknown}"
    with project.started(*WORKER, "--queues", "mail", "--hostname", "a@x"):
        wait_until(lambda: (tmp_path / "a@x runs").exists(), "a worker that has a task")
        green = "0 waiting in celery; 1 waiting in mail"
        elsewhere = f"True {green}{unknown}"  # without the heartbeat of this worker
        wait_until(lambda: shell(project, LOOK, tmp_path) == elsewhere, elsewhere)
        here = f"{green}, which a worker on this machine consumes{unknown}"
        wait_until(lambda: shell(project, LOOK) == f"True {here}", here)
        (tmp_path / "a@x may end").touch()


@pytest.mark.live("rabbitmq-server")
def test_on_rabbitmq_a_queue_without_a_worker_is_red(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    project = RabbitMQ(servers.rabbitmq.url, template, tmp_path)
    project.add("config/settings/project.py", QUEUE)
    shell(project, SEND_MAIL.format(str(tmp_path)))
    nobody = "which no worker consumes"
    red = f"0 waiting in celery, {nobody}; 1 waiting in mail, {nobody}"
    unknown = ". The age of messages is not known on RabbitMQ."
    for _ in range(2):  # reading the status takes no message
        assert shell(project, LOOK) == f"False {red}{unknown}"
    (tmp_path / "a@x may end").touch()
    with (
        project.started(*WORKER, "--queues", "mail", "--hostname", "a@x"),
        project.started(*WORKER, "--hostname", "b@x", "--exclude-queues", "nothing"),
    ):
        one, two = "which 1 worker consumes", "which 2 workers consume"
        green = f"True 0 waiting in celery, {one}; 0 waiting in mail, {two}"
        wait_until(lambda: shell(project, LOOK) == green, green)


@pytest.mark.live("rabbitmq-server")
def test_rabbitmq_keeps_a_task_that_takes_longer_than_it_waits(
    template: Path, tmp_path: Path
) -> None:
    """The worker exits with an error and the task runs again, until the timeout is long enough."""
    with (
        TemporaryDirectory(prefix="servers-") as directory,
        RabbitMQWithShortConsumerTimeout(Path(directory)) as server,
    ):
        project = RabbitMQ(server.url, template, tmp_path)
        shell(project, f"from apps.probe.tasks import stay; print(stay.delay({str(tmp_path)!r}))")
        for name in ("a@x", "b@x"):
            with project.started(*WORKER, "--hostname", name, code=1) as worker:
                wait_until((tmp_path / f"{name} runs").exists, name)
                wait_until(lambda: "Unrecoverable error" in project.log("worker"), "an error")
                (tmp_path / f"{name} may end").touch()
                assert worker.wait(300) == 1
            assert "delivery acknowledgement on channel 1 timed out" in project.log("worker")
            project._log("worker").unlink()
            assert shell(project, LOOK).startswith("False 1 waiting in celery")
        server.end()
        server.seconds = 3600
        server.start()
        with project.started(*WORKER, "--hostname", "c@x"):
            wait_until(lambda: (tmp_path / "c@x runs").exists(), "a third worker")
            time.sleep(2 * RabbitMQWithShortConsumerTimeout.seconds)
            (tmp_path / "c@x may end").touch()
            nothing = "True 0 waiting in celery, which 1 worker consumes"
            wait_until(lambda: len(notes(project)) == 3, "the end of the task")
            wait_until(lambda: shell(project, LOOK) == nothing, nothing)
    assert [worker for _, worker in notes(project)] == ["a@x", "b@x", "c@x"]
