"""The files around the code: image, compose, CI and Kubernetes, as data and once for real."""

import json
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

import pytest
import yaml
from projects import run
from rendering import ROOT, render

EVERY_MONITOR = ["flower", "prometheus", "sentry"]
ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "rabbitmq": {
        "broker_url": "amqp://rabbitmq:5672//",
        "beat_scheduler": "file",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
        "ci": "gitlab",
    },
    "two servers": {
        "broker_url": "amqp://rabbitmq:5672//",
        "result_backend": "redis://redis:6379/1",
    },
    "elsewhere": {
        "broker_url": "rediss://shop@cache.example.com/2",
        "result_backend": "rediss://results.example.com:7000/1",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sentinel": {
        "broker_url": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
        "result_backend": "redis",
        "beat_scheduler": "redbeat",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sqs": {"broker_url": "sqs://", "monitoring": EVERY_MONITOR, "kubernetes": True},
    "socket": {
        "broker_url": "redis+socket:///run/redis/redis.sock",
        "kubernetes": True,
        "ci": "none",
    },
}
SERVERS = {
    "defaults": {"redis"},
    "rabbitmq": {"rabbitmq"},
    "two servers": {"rabbitmq", "redis"},
}
"""Which servers of tasks and results the stack ships; the other answers name some elsewhere."""

OURS = {"web", "celery-worker", "celery-beat"}
COMPOSE = ("compose.yaml", "compose.production.yaml")

Project = Callable[[str], Path]


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of one of the answers above, rendered once."""
    root = tmp_path_factory.mktemp("containers")

    @cache
    def rendered(name: str) -> Path:
        return render(template, root / name.replace(" ", "-"), **ANSWERS[name])

    return rendered


@pytest.fixture(params=ANSWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def services(file: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return loaded


def text(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


# Compose


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_files_fit_the_specification(project: Project, file: str) -> None:
    files = [str(project(name) / file) for name in ANSWERS]
    run(ROOT, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def test_the_stack_has_the_services_that_the_answers_need(project: Project, name: str) -> None:
    monitoring = set()
    if "monitoring" in ANSWERS[name]:
        monitoring = {"flower"} if name == "sqs" else {"flower", "celery-exporter"}
    assert services(project(name) / "compose.yaml").keys() == (
        OURS | {"migrate", "db"} | SERVERS.get(name, set()) | monitoring
    )
    assert services(project(name) / "compose.production.yaml").keys() == (
        OURS | {"migrate"} | monitoring
    )


@pytest.mark.parametrize("file", COMPOSE)
def test_worker_and_beat_are_started_as_documented(project: Project, name: str, file: str) -> None:
    found = services(project(name) / file)
    assert found["celery-worker"]["command"] == "celery -A config worker -l info"
    assert found["celery-beat"]["command"] == "celery -A config beat -l info"


@pytest.mark.parametrize("file", COMPOSE)
def test_every_service_that_stays_has_a_check_and_comes_back(
    project: Project, name: str, file: str
) -> None:
    for service, found in services(project(name) / file).items():
        if service == "migrate":
            assert "healthcheck" not in found
            assert found["restart"] == "no"
        else:
            assert found["healthcheck"]["test"], service
            assert found["restart"] == "unless-stopped", service
        assert found["mem_limit"], service


@pytest.mark.parametrize("file", COMPOSE)
def test_what_uses_the_database_waits_for_the_migrations(
    project: Project, name: str, file: str
) -> None:
    found = services(project(name) / file)
    for service in OURS:
        awaited = found[service]["depends_on"]["migrate"]
        assert awaited == {"condition": "service_completed_successfully"}


def test_one_image_is_built_once_and_shared(project: Project, name: str) -> None:
    found = services(project(name) / "compose.yaml")
    assert [service for service in found if "build" in found[service]] == ["migrate"]
    assert len({found[service]["image"] for service in OURS | {"migrate"}}) == 1


@pytest.mark.parametrize("file", COMPOSE)
def test_ports_are_published_on_loopback_and_only_those_of_pages(
    project: Project, name: str, file: str
) -> None:
    published = {
        service: found["ports"]
        for service, found in services(project(name) / file).items()
        if "ports" in found
    }
    assert published.keys() <= {"web", "flower", "celery-exporter"}
    assert published["web"] == ["127.0.0.1:${WEB_PORT:-8000}:8000"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    for service in published.keys() - {"web"}:
        assert services(project(name) / file)[service]["profiles"] == ["monitoring"]


def test_broker_and_database_stand_in_networks_that_lead_nowhere(
    project: Project, name: str
) -> None:
    found = services(project(name) / "compose.yaml")
    networks = yaml.safe_load((project(name) / "compose.yaml").read_text())["networks"]
    for service in {"db", "redis", "rabbitmq"} & found.keys():
        (network,) = found[service]["networks"]
        assert networks[network] == {"internal": True}


@pytest.mark.parametrize("file", COMPOSE)
def test_flower_does_not_start_without_a_password(project: Project, name: str, file: str) -> None:
    if flower := services(project(name) / file).get("flower"):
        script = text(flower["command"])
        assert re.search(r"\$\$\{FLOWER_BASIC_AUTH:\?[^}]+\}", script)
        assert "FLOWER_BASIC_AUTH" in flower["environment"]


def test_production_has_no_secret_of_its_own(project: Project, name: str) -> None:
    content = (project(name) / "compose.production.yaml").read_text()
    code = "\n".join(line for line in content.splitlines() if not line.startswith("#"))
    with_default = set(re.findall(r"\$\{(\w+):?-", code))
    assert with_default <= {
        "WEB_PORT",
        "FLOWER_PORT",
        "EXPORTER_PORT",
        "CELERY_WORKER_CONCURRENCY",
    }
    assert {"IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS"} <= set(
        re.findall(r"\$\{(\w+):\?[^}]+\}", code)
    )
    found = yaml.safe_load(content)
    for secret in found["secrets"].values():
        assert re.fullmatch(r"\$\{SECRETS_DIR(:\?[^}]+)?\}/\w+", secret["file"])
    for service in found["services"].values():
        for variable, value in service["environment"].items():
            if re.search("KEY|URL|AUTH|BACKEND", variable):
                assert value is None or str(value).startswith("/run/secrets/"), variable


def test_production_containers_write_nowhere_and_may_nothing(project: Project, name: str) -> None:
    for service, found in services(project(name) / "compose.production.yaml").items():
        assert found["read_only"], service
        assert found["cap_drop"] == ["ALL"], service
        assert found["security_opt"] == ["no-new-privileges:true"], service
        assert found["logging"]["options"]["max-size"], service
        mounted = found.get("volumes", [])
        assert mounted == (
            ["beat:/app/var"]
            if service == "celery-beat" and ANSWERS[name].get("beat_scheduler") == "file"
            else []
        )


def test_the_example_sets_nothing_and_names_what_is_read(project: Project, name: str) -> None:
    lines = (project(name) / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    readers = [*project(name).glob("compose*.yaml"), *project(name).glob("config/**/*.py")]
    read = "\n".join(file.read_text() for file in readers)
    names = re.findall(r"^# ([A-Z_]{4,})=", "\n".join(lines), re.MULTILINE)
    assert len(names) == len(set(names)) > 10
    assert [name for name in names if name not in read] == []


# Image


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    run(ROOT, "hadolint", "template/Dockerfile")


def test_secrets_and_history_stay_out_of_the_image() -> None:
    ignored = (ROOT / "template" / ".dockerignore").read_text().splitlines()
    assert {".env", ".env.*", ".git", ".venv", "var"} <= set(ignored)


# CI


def test_the_pipelines_fit_their_schemas_and_are_safe(project: Project) -> None:
    github, gitlab = project("defaults"), project("rabbitmq")
    checks = {
        "vendor.github-workflows": github / ".github" / "workflows" / "ci.yml",
        "vendor.dependabot": github / ".github" / "dependabot.yml",
    }
    for schema, file in checks.items():
        run(ROOT, "check-jsonschema", "--builtin-schema", schema, str(file))
    run(
        ROOT,
        *("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci"),
        *("--data-transform", "gitlab-ci", str(gitlab / ".gitlab-ci.yml")),
    )
    run(github, "zizmor", "--offline", "--quiet", "--persona", "pedantic", ".")


@pytest.mark.parametrize(
    ("name", "kept", "left_out"),
    [
        ("defaults", ".github", ".gitlab-ci.yml"),
        ("rabbitmq", ".gitlab-ci.yml", ".github"),
        ("socket", ".env.example", ".github"),
        ("socket", ".env.example", ".gitlab-ci.yml"),
    ],
)
def test_a_project_has_the_pipeline_of_its_host_alone(
    project: Project, name: str, kept: str, left_out: str
) -> None:
    assert (project(name) / kept).exists()
    assert not (project(name) / left_out).exists()


def test_pipelines_run_what_the_justfile_offers(project: Project) -> None:
    for file in (
        project("defaults") / ".github" / "workflows" / "ci.yml",
        project("rabbitmq") / ".gitlab-ci.yml",
    ):
        assert {"uv run just check", "uv run just test"} <= set(
            re.findall(r"uv run just \w+", file.read_text())
        )


# Kubernetes


def manifests(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    found = yaml.safe_load_all(run(folder, "kubectl", "kustomize", "."))
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


KUBERNETES = [name for name, answers in ANSWERS.items() if answers.get("kubernetes")]


@pytest.mark.parametrize("name", KUBERNETES)
def test_manifests_fit_kubernetes(project: Project, name: str) -> None:
    import kubernetes_validate

    for manifest in manifests(project(name) / "kubernetes" / "production").values():
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.mark.parametrize("name", KUBERNETES)
def test_every_pod_is_restricted_and_names_its_needs(project: Project, name: str) -> None:
    found = manifests(project(name) / "kubernetes" / "production")
    workloads = [each for (kind, _), each in found.items() if kind in ("Deployment", "Job")]
    assert {each["metadata"]["name"] for each in workloads} == OURS | {"migrate"}
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"].startswith("registry.example.com/")
            assert container["resources"].keys() == {"requests", "limits"}
        if workload["kind"] == "Deployment":
            assert {"startupProbe", "livenessProbe"} <= pod["containers"][0].keys()


@pytest.mark.parametrize(
    ("name", "trigger"),
    [
        ("rabbitmq", {"type": "rabbitmq", "queueName": "celery"}),
        (
            "elsewhere",
            {"type": "redis", "address": "cache.example.com:6379", "databaseIndex": "2"},
        ),
        (
            "sentinel",
            {
                "type": "redis-sentinel",
                "addresses": "one.example.com:26379,two.example.com:26379",
            },
        ),
        ("sqs", {"type": "aws-sqs-queue", "queueURL": "celery"}),
        ("socket", None),
    ],
)
def test_workers_scale_by_the_queue_of_their_broker(
    project: Project, name: str, trigger: dict[str, str] | None
) -> None:
    found = manifests(project(name) / "kubernetes" / "production")
    assert (("ScaledObject", "celery-worker") in found) == (trigger is not None)
    if trigger is not None:
        (actual,) = found["ScaledObject", "celery-worker"]["spec"]["triggers"]
        assert (actual["metadata"] | {"type": actual["type"]}).items() >= trigger.items()


# For real


@cache
def engine() -> bool:
    """Whether a container engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


class Stack:
    """A generated project's stack, run by the engine under a name of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def compose(self, *arguments: str) -> str:
        return run(self.project, "docker", "compose", *arguments, WEB_PORT=str(self.port))

    def up(self) -> None:
        self.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "180")

    def processes(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]

    def page(self) -> str:
        """Press the landing page's button, and return the page that comes back."""
        browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        address = f"http://127.0.0.1:{self.port}/"
        shown = browser.open(address, timeout=30).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown)
        assert token, shown
        form = urlencode({"csrfmiddlewaretoken": token[1]}).encode()
        return str(browser.open(address, form, timeout=60).read().decode())


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default project's stack, healthy."""
    if not engine():
        pytest.skip("no container engine answers")
    name = f"stack-{uuid.uuid4().hex[:8]}"
    stack = Stack(render(template, tmp_path_factory.mktemp("stack") / name, project_name=name))
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--rmi", "local")


@pytest.mark.containers
def test_every_service_of_the_stack_becomes_healthy(stack: Stack) -> None:
    states = {each["Service"]: (each["State"], each["Health"]) for each in stack.processes()}
    assert states == {
        **dict.fromkeys(OURS | {"db", "redis"}, ("running", "healthy")),
        "migrate": ("exited", ""),
    }


@pytest.mark.containers
def test_a_task_goes_from_the_page_to_the_worker_and_back(stack: Stack) -> None:
    page = stack.page()
    assert "Processed: Hello from the landing page" in page
    assert page.count(">alive<") == 4


@pytest.mark.containers
def test_nothing_but_the_web_is_published(stack: Stack) -> None:
    published = {
        (each["Service"], port["URL"], port["PublishedPort"])
        for each in stack.processes()
        for port in each["Publishers"] or []
        if port["PublishedPort"]
    }
    assert published == {("web", "127.0.0.1", stack.port)}


@pytest.mark.containers
@pytest.mark.parametrize("service", ["celery-worker", "celery-beat"])
def test_a_killed_process_comes_back(stack: Stack, service: str) -> None:
    def started() -> str:
        name = next(each["Name"] for each in stack.processes() if each["Service"] == service)
        return run(stack.project, "docker", "inspect", "--format", "{{.State.StartedAt}}", name)

    before = started()
    stack.compose("exec", "-T", service, "sh", "-c", "kill -KILL -1 || true")
    deadline = time.monotonic() + 60
    while started() == before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert started() != before
    stack.compose("up", "--detach", "--wait", "--wait-timeout", "120")
    assert "Processed: Hello" in stack.page()


@pytest.mark.containers
def test_the_image_is_small_and_holds_neither_tools_nor_secrets(stack: Stack) -> None:
    def size(image: str) -> int:
        return int(run(stack.project, "docker", "image", "inspect", "-f", "{{.Size}}", image))

    image = stack.project.name
    assert size(image) - size("python:3.13-slim") < 250_000_000
    absent = "! command -v uv && ! command -v gcc && test ! -e .env && test ! -e .git"
    checks = f'{absent} && test "$(id -u)" = 1000 && test -e staticfiles/staticfiles.json'
    run(stack.project, "docker", "run", "--rm", image, "sh", "-c", checks)


@pytest.mark.containers
def test_the_image_follows_the_lock_once_there_is_one(stack: Stack) -> None:
    older = "5.2.8"  # the newest is what an image without a lock would get
    run(stack.project, "uv", "lock", "--quiet", "--upgrade-package", f"django=={older}")
    stack.compose("build", "--quiet")
    version = "import django; print(django.__version__)"
    command = ("docker", "run", "--rm", stack.project.name, "python", "-c", version)
    assert run(stack.project, *command) == f"{older}\n"
