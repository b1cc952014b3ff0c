"""Every answer works: each broker, result backend, scheduler and database, on real servers."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from matrix import CELLS, Cell, Project, Servers, pairwise
from servers import Certificates, Sentinels, wait_until


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = CELLS if metafunc.config.getoption("--all-cells") else pairwise(CELLS)
        marked = [
            pytest.param(it, id=str(it), marks=pytest.mark.live(*it.programs())) for it in cells
        ]
        metafunc.parametrize("cell", marked)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers for all tests, where the user that one of them runs as can go."""
    with TemporaryDirectory(prefix="servers-") as directory:
        Path(directory).chmod(0o755)
        with Servers(Path(directory)) as them:
            yield them


def test_the_chosen_cells_hold_every_pair_of_answers() -> None:
    chosen = pairwise(CELLS)
    assert len(chosen) < len(CELLS) / 2
    assert set().union(*(cell.pairs() for cell in chosen)) == set().union(
        *(cell.pairs() for cell in CELLS)
    )


def test_a_cell_works(cell: Cell, servers: Servers, template: Path, tmp_path: Path) -> None:
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    with project.at_work():
        project.run("python", "-m", "apps.probe")


IS_BROKER_THERE = "from apps.pipeline.status import broker; print(broker())"


@pytest.mark.live("redis-server", "rabbitmq-server")
@pytest.mark.parametrize("broker", ["rediss", "amqps"])
def test_a_broker_that_cannot_prove_who_it_is_is_refused(
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
def test_projects_with_a_prefix_each_do_not_meet_on_one_redis(
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
def test_a_failover_in_mid_run_loses_nothing_that_was_accepted(
    template: Path, tmp_path: Path
) -> None:
    cell = Cell("sentinel", "redis", "database", "sqlite")
    send = ("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
    with TemporaryDirectory(prefix="servers-") as directory, Sentinels(Path(directory)) as watched:
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url)
        accepted = set(json.loads(project.run(*send)))
        with project.started("celery", "-A", "config", "worker", "-l", "info"):
            wait_until(lambda: len(project.done()) > 20, 300, "tasks that were done")
            killed = watched.master()
            killed.end(signal.SIGKILL)
            wait_until(lambda: watched.master() != killed, 300, "another master")
            assert accepted - project.done(), "all was done before there was another master"
            wait_until(lambda: accepted <= project.done(), 300, "the tasks that were left")


TRY = """
import time
from kombu.exceptions import OperationalError
from apps.probe.tasks import nap
began = time.monotonic()
try:
    nap.delay(0)
except OperationalError as error:
    print(error)
print(time.monotonic() - began)
"""
TRY_TO_SEND = ("python", "manage.py", "shell", "--verbosity", "0", "--command", TRY)


@pytest.mark.parametrize(
    ("broker", "url"),
    [
        ("rediss", "rediss://:secret@127.0.0.1:{}/0"),
        ("amqps", "amqps://me:secret@127.0.0.1:{}//"),
        ("sqs", "sqs://me:secret@127.0.0.1:{}/0"),
    ],
)
def test_a_broker_that_takes_the_call_and_says_nothing_is_named_within_three_seconds(
    template: Path, tmp_path: Path, broker: str, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = url.format(silent.getsockname()[1])
        cell = Cell(broker, "none", "file", "sqlite")
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=url)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
    said = url.replace("secret", "**")
    assert words.startswith(f"{said} does not take apps.probe.tasks.nap: "), words
    assert float(seconds) < 3


@pytest.mark.live("redis-server")
def test_sentinels_that_are_frozen_hold_nobody_up(template: Path, tmp_path: Path) -> None:
    """One of three costs a moment; of all three a view is told as of any broker that is away."""
    cell = Cell("sentinel", "redis", "redbeat", "sqlite")
    with TemporaryDirectory(prefix="servers-") as directory, Sentinels(Path(directory)) as watched:
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        first, *others = watched.sentinels
        first.send(signal.SIGSTOP)
        (seconds,) = project.run(*TRY_TO_SEND).splitlines()
        assert float(seconds) < 3
        with project.at_work():
            project.run("python", "-m", "apps.probe")
        for sentinel in others:
            sentinel.send(signal.SIGSTOP)
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
        assert words.endswith("does not take apps.probe.tasks.nap: No master found for 'mymaster'")
        assert float(seconds) < 3
