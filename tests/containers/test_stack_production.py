"""The containers of compose.production.yaml, with secret files and external servers with TLS."""

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.projects import run
from support.rendering import render
from support.stacks import Stack, docker, new_name
from support.waiting import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.live("openssl")]

OURS = ("web", "celery-worker", "celery-beat")

ELSEWHERE = Path(__file__).with_name("elsewhere")
"""Compose files of an external database and broker, and of the network to them."""


def certificates(directory: Path) -> None:
    """A private CA, and its certificate for the two servers."""
    directory.mkdir()
    names = "subjectAltName=DNS:database.example.com,DNS:broker.example.com"
    (directory / "names").write_text(names)
    new = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    authority = ("-x509", "-subj", "/CN=Test CA", "-addext", "keyUsage=critical,keyCertSign")
    run(directory, "openssl", "req", *authority, *new, "ca.key", "-out", "ca.pem")
    run(directory, "openssl", "req", "-subj", "/CN=server", *new, "key.pem", "-out", "request")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    run(directory, "openssl", "x509", "-req", "-in", "request", *signed, "-out", "certificate.pem")
    for file in directory.iterdir():
        file.chmod(0o644)  # the servers run as other users


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An external database and broker."""
    name = new_name("elsewhere")
    directory = tmp_path_factory.mktemp("elsewhere") / name
    shutil.copytree(ELSEWHERE, directory)
    certificates(directory / "certificates")
    servers = Stack(directory, PASSWORD=secrets.token_hex(8), NETWORK=name)
    try:
        servers.up()
        yield servers
    finally:
        servers.remove()


@pytest.fixture(scope="module")
def stack(
    template: Path, elsewhere: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The production containers before they start, with their image, secrets and network."""
    name = new_name("production")
    project = render(template, tmp_path_factory.mktemp("production") / name, project_name=name)
    password = elsewhere.variables["PASSWORD"]
    contents = {
        "django_secret_key": secrets.token_urlsafe(50),
        "database_url": f"postgres://shop:{password}@database.example.com:5432/shop"
        "?sslmode=verify-full&sslrootcert=system",
        "celery_broker_url": f"rediss://:{password}@broker.example.com:6379/0",
        "ca.pem": (elsewhere.project / "certificates" / "ca.pem").read_text(),
    }
    contents["beat_lock_database_url"] = contents["database_url"]
    directory = project.parent / "secrets"
    directory.mkdir()
    for file, content in contents.items():
        (directory / file).write_text(content)
        (directory / file).chmod(0o444)
    shutil.copy(ELSEWHERE / "reaching.yaml", project)
    added = ("compose.ca.yaml", "compose.lock.yaml")
    for file in added:
        (project / file).write_text(documented(project, file))
    docker("build", "--quiet", "--tag", f"{name}:1", str(project))
    stack = Stack(
        project,
        *("compose.production.yaml", "reaching.yaml", *added),
        NETWORK=elsewhere.name,
        IMAGE=f"{name}:1",
        SECRETS_DIR=str(directory),
        DJANGO_ALLOWED_HOSTS="shop.example.com",
    )
    try:
        yield stack
    finally:
        stack.remove()
        docker("image", "rm", "--force", f"{name}:1")


def documented(project: Path, file: str) -> str:
    """A file whose content is in the project's documentation."""
    page = (project / "docs" / "containers.md").read_text()
    return page.partition(f"# {file}\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def up(stack: Stack) -> Stack:
    stack.up()
    return stack


class TestRefusals:
    @pytest.mark.parametrize("missing", ["IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS"])
    def test_the_error_names_a_missing_variable(self, stack: Stack, missing: str) -> None:
        without = Stack(stack.project, *stack.files, **stack.variables | {missing: ""})
        assert f"Set {missing} to " in without.compose("config", codes=(1, 15))

    @pytest.mark.parametrize(
        ("secret", "content", "sentence"),
        [
            ("django_secret_key", "insecure-and-only-for-your-own-machine", "is a default"),
            ("django_secret_key", "short", "is a default or short"),
            ("django_secret_key", None, "django_secret_key"),
            ("database_url", None, "database_url"),
        ],
    )
    def test_no_service_starts_on_a_default_or_without_a_secret(
        self, stack: Stack, tmp_path: Path, secret: str, content: str | None, sentence: str
    ) -> None:
        directory = shutil.copytree(stack.variables["SECRETS_DIR"], tmp_path / "secrets")
        (directory / secret).unlink()
        if content is not None:
            (directory / secret).write_text(content)
        variables = stack.variables | {"SECRETS_DIR": str(directory)}
        refused = Stack(stack.project, *stack.files, **variables)
        for service in (*OURS, "migrate"):
            run_once = ("run", "--rm", "--no-deps", "-T", service)
            said = refused.compose(*run_once, codes=tuple(range(1, 256)))
            assert sentence in said, service
            assert "Traceback" not in said, service

    @pytest.mark.parametrize("server", ["database", "broker"])
    def test_a_server_with_an_untrusted_certificate_is_refused(
        self, stack: Stack, server: str
    ) -> None:
        without = Stack(stack.project, *stack.files[:2], **stack.variables)
        code = {
            "database": "from django.db import connection; connection.ensure_connection()",
            "broker": "from celery import current_app\n"
            "current_app.connection().ensure_connection(max_retries=1)",
        }[server]
        shell = ("python", "manage.py", "shell", "--verbosity", "0", "--command", code)
        said = without.compose("run", "--rm", "--no-deps", "-T", "web", *shell, codes=(1,))
        assert "certificate verify failed" in said


class TestRunning:
    def test_every_service_becomes_healthy(self, up: Stack) -> None:
        states = {each["Service"]: (each["State"], each["Health"]) for each in up.processes()}
        assert states == {
            **dict.fromkeys(OURS, ("running", "healthy")),
            "migrate": ("exited", ""),
        }

    def test_the_whole_pipeline_works(self, up: Stack) -> None:
        doctor = ("sh", "-c", "python manage.py doctor && echo All works")
        wait_until(
            lambda: "All works" in up.compose("exec", "-T", "web", *doctor, codes=(0, 1)),
            "doctor finds no fault",
        )

    def test_the_web_answers_its_proxy(self, up: Stack) -> None:
        assert up.open("/healthz", Host="localhost")[0] == 200
        headers = {"Host": "shop.example.com", "X-Forwarded-Proto": "https"}
        status, page = up.open("/admin/login/", **headers)
        assert status == 200
        assert 'name="password"' in page

    def test_djangos_own_checks_for_a_deployment_find_nothing(self, up: Stack) -> None:
        check = ("python", "manage.py", "check", "--deploy", "--fail-level", "WARNING")
        up.compose("exec", "-T", "web", *check)

    def test_containers_have_no_capabilities_and_a_read_only_root(self, up: Stack) -> None:
        for service in OURS:
            (container,) = up.containers(service)
            config = container["HostConfig"]
            assert config["ReadonlyRootfs"]
            assert config["CapDrop"] == ["ALL"]
            assert config["SecurityOpt"] == ["no-new-privileges:true"]
            assert config["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
            trial = "id -u; touch /app/here || touch /opt/venv/here || touch /home/app/here"
            said = up.compose("exec", "-T", service, "sh", "-c", trial, codes=(1,))
            assert "1000" in said.splitlines()
            assert said.count("Read-only file system") == 3

    def test_each_log_line_is_a_json_object(self, up: Stack) -> None:
        for service in OURS:
            (container,) = up.containers(service)
            logs = f"docker logs {container['Id']}"
            lines = run(Path.cwd(), "sh", "-c", f"{logs} 2>&1 >/dev/null").splitlines()
            assert lines
            for record in map(json.loads, lines):
                assert {"asctime", "levelname", "name", "message"} <= record.keys()
            banner = run(Path.cwd(), "sh", "-c", f"{logs} 2>/dev/null")
            assert bool(banner) == service.startswith("celery"), banner
            assert not re.search(r":\d\d,\d{3}\b", banner), "a line of the log"

    def test_containers_stop_within_the_grace_period(self, up: Stack) -> None:
        up.compose("stop")
        for service in OURS:
            assert up.containers(service)[0]["State"]["ExitCode"] == 0, service
