"""Brokers that fail over, freeze or have a wrong certificate, and projects that share a broker."""

import json
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
import redis

from support.matrix import Cell, Servers
from support.probe_project import SEND_TIMEOUT, TRY_TO_SEND, Project
from support.redis_servers import sentinels
from support.servers import Certificates
from support.waiting import wait_until


class WithProductionTimeouts(Project):
    """A project with the timeouts of production, for tests that measure the time to an error."""

    long_timeouts: ClassVar[bool] = False


IS_BROKER_THERE = "from apps.pipeline.status.parts import broker; print(broker())"


@pytest.mark.live("redis-server", "rabbitmq-server")
@pytest.mark.parametrize("broker", ["rediss", "amqps"])
def test_a_broker_with_a_wrong_certificate_is_refused(
    broker: str, servers: Servers, template: Path, tmp_path: Path
) -> None:
    variables = servers.variables(cell := Cell(broker, "none", "file", "sqlite"))
    project = Project(template, tmp_path / "project", cell, **variables)
    ask = ("python", "manage.py", "shell", "--verbosity", "0", "--command", IS_BROKER_THERE)
    assert "ok=True" in project.run(*ask)
    stranger = Certificates(tmp_path / "other").authority
    assert "certificate verify failed" in project.run(*ask, SSL_CERT_FILE=str(stranger))
    elsewhere = variables["CELERY_BROKER_URL"].replace("@localhost:", "@127.0.0.2:")
    assert "certificate is not valid for" in project.run(*ask, CELERY_BROKER_URL=elsewhere)


@pytest.mark.live("redis-server")
def test_projects_with_prefixes_can_share_a_redis(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    cell = Cell("redis", "redis", "redbeat", "sqlite")
    url = f"{servers.redis.url}/2"
    project = Project(
        template, tmp_path / "project", cell, CELERY_BROKER_URL=url, KEY_PREFIX="one:"
    )
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    ping = ("celery", "-A", "config", "inspect", "ping")
    with project.at_work():
        project.run("python", "-m", "apps.probe")
        assert "1 node online" in project.run(*ping)
        assert "No nodes replied" in project.run(*ping, codes=(69,), KEY_PREFIX="two:")
        with redis.Redis.from_url(url) as client:
            keys = client.keys()
    assert {key.partition(b":")[0] for key in keys} == {b"one", b"two"}


SEND = """
import json
from apps.probe.tasks import nap
print(json.dumps([nap.delay(0.1).id for _ in range(300)]))
"""


@pytest.mark.live("redis-server")
def test_a_failover_loses_no_accepted_task(template: Path, tmp_path: Path) -> None:
    cell = Cell("sentinel", "redis", "database", "sqlite")
    send = ("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
    with TemporaryDirectory(prefix="servers-") as directory, sentinels(Path(directory)) as watched:
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url)
        accepted = set(json.loads(project.run(*send)))
        with project.started("celery", "-A", "config", "worker", "-l", "info"):
            wait_until(lambda: len(project.done()) > 20, "tasks that were done")
            watched.fail_over()
            assert accepted - project.done(), "all was done before there was another master"
            wait_until(lambda: accepted <= project.done(), "the tasks that were left")


@pytest.mark.parametrize(
    ("broker", "url"),
    [
        ("rediss", "rediss://:secret@127.0.0.1:{}/0"),
        ("amqps", "amqps://me:secret@127.0.0.1:{}//"),
        ("sqs", "sqs://me:secret@127.0.0.1:{}/0"),
    ],
)
def test_the_error_names_a_broker_that_does_not_answer(
    template: Path, tmp_path: Path, broker: str, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = url.format(silent.getsockname()[1])
        cell = Cell(broker, "none", "file", "sqlite")
        project = WithProductionTimeouts(
            template, tmp_path / "project", cell, CELERY_BROKER_URL=url
        )
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
    said = url.replace("secret", "**")
    assert words.startswith(f"{said} did not accept apps.probe.tasks.nap: "), words
    assert float(seconds) < SEND_TIMEOUT


@pytest.mark.live("redis-server")
def test_frozen_sentinels_do_not_block_views(template: Path, tmp_path: Path) -> None:
    """One frozen Sentinel delays a view a little. With three frozen ones, sending fails soon."""
    cell = Cell("sentinel", "redis", "redbeat", "sqlite")
    with TemporaryDirectory(prefix="servers-") as directory, sentinels(Path(directory)) as watched:
        project = WithProductionTimeouts(
            template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url
        )
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        first, *others = watched.sentinels
        first.send(signal.SIGSTOP)
        (seconds,) = project.run(*TRY_TO_SEND).splitlines()
        assert float(seconds) < SEND_TIMEOUT
        with project.at_work():
            project.run("python", "-m", "apps.probe")
        for sentinel in others:
            sentinel.send(signal.SIGSTOP)
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
        assert words.endswith("did not accept apps.probe.tasks.nap: No master found for 'mymaster'")
        assert float(seconds) < SEND_TIMEOUT
