"""The commands and files of docs/scaling.md for a queue with its own worker, on each broker."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.deployment_files import ANSWERS
from support.manifests import KEDA, KUBERNETES, built, keda_schema
from support.matrix import Servers
from support.projects import environment, run
from support.rendering import ROOT, render
from support.servers import free_port
from support.stacks import Stack, new_name
from support.tutorial import Reader
from support.tutorial_steps import Block, Terminal, blocks
from support.waiting import wait_until

TASK = "apps.reports.tasks.archive_old_items_task"
SEND = "from apps.reports.tasks import archive_old_items_task as it; it.delay()"


def section(page: Path, title: str) -> list[Block]:
    """The blocks under this title."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return blocks(found[1])


def follow(project: Path, steps: list[Block]) -> None:
    with Reader(project, environment(), {}) as reader:
        for step in steps:
            reader.follow(step)


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A project with an app `reports`, whose tasks wait in a queue of that name."""
    project = render(template, tmp_path / new_name("scaling"), project_name="Scaling")
    run(project, "just", "app", "reports")
    follow(project, [step(project, "project.py")])
    return project


def step(project: Path, title: str) -> Block:
    """The block of docs/scaling.md for the file of this name."""
    steps = section(project / "docs/scaling.md", "Separate queues")
    [found] = (each for each in steps if each.attributes.get("title", "").endswith(title))
    return found


# With `just dev`


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path) as servers:
        yield servers


def doctor(project: Path, variables: dict[str, Any]) -> dict[str, Any]:
    """The line of `doctor` about the queues."""
    report = run(project, "just", "doctor", "--json", codes=(0, 1), **variables)
    found, _ = json.JSONDecoder().raw_decode(report, report.index("{"))
    return next(part for part in found["parts"] if part["name"] == "queues")


@pytest.mark.parametrize(
    "broker",
    [
        "embedded",
        pytest.param("amqp", marks=pytest.mark.live("rabbitmq-server")),
        "sqs",
    ],
)
def test_just_dev_gives_each_queue_a_worker_and_one_of_its_own(
    project: Path, servers: Servers, broker: str
) -> None:
    variables: dict[str, Any] = {"PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
    if broker != "embedded":
        variables |= servers._broker(broker) | {"CELERY_RESULT_BACKEND": "none"}
    shell = ("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
    dev = Terminal("just dev", project, environment(**variables), project.parent / "dev.log")
    try:
        dev.expect(["...celery@... ready."])
        run(project, *shell, **variables)
        dev.expect([f"...worker...Task {TASK}[...] succeeded..."])
        wait_until(
            lambda: not says_nobody_takes(doctor(project, variables)["words"]),
            "a worker takes from both queues",
        )

        follow(project, [step(project, "Procfile")])
        dev.expect([".env or Procfile has changed: restarting all processes ..."])
        dev.expect(["...celery@... ready.", "...reports@... ready."])
        run(project, *shell, **variables)
        dev.expect([f"...reports...Task {TASK}[...] succeeded..."])
        wait_until(
            lambda: not says_nobody_takes(doctor(project, variables)["words"]),
            "a worker takes from both queues",
        )

        procfile = project / "Procfile"
        lines = procfile.read_text().splitlines(keepends=True)
        procfile.write_text("".join(line for line in lines if not line.startswith("reports:")))
        dev.expect([".env or Procfile has changed: restarting all processes ..."])
        dev.expect(["...celery@... ready."])
        run(project, *shell, **variables)
        wait_until(lambda: doctor(project, variables)["ok"] is False, "a queue is red")
        words = doctor(project, variables)["words"]
        nobody = r"which (probably )?no worker consumes"
        waits = rf"; 1 waiting in reports, (the oldest for \d+ s, )?{nobody}"
        assert re.search(waits, words), words
    finally:
        dev.close()


def says_nobody_takes(words: str) -> bool:
    assert "waiting in celery" in words
    assert "waiting in reports" in words
    return "which no worker consumes" in words


# In containers


@pytest.mark.containers
def test_a_worker_of_the_stack_takes_from_the_queue_alone(project: Path) -> None:
    follow(project, [step(project, "compose.override.yaml")])
    stack = Stack(project, "compose.yaml", "compose.override.yaml")
    try:
        stack.run("just", "up", "--wait-timeout", "180")
        states = {each["Service"]: each["Health"] for each in stack.processes()}
        assert states["celery-worker-reports"] == states["celery-worker"] == "healthy"
        stack.python(SEND)
        done = f"Task {TASK}"
        wait_until(lambda: done in stack.compose("logs", "celery-worker-reports"), "it is done")
        assert done not in stack.compose("logs", "celery-worker")
        words = "from apps.pipeline.status.queues import queues; print(queues().words)"
        both = "; ".join(
            rf"0 waiting in {name}, which \S+ consumes" for name in ("celery", "reports")
        )
        wait_until(
            lambda: re.fullmatch(both, stack.python(words).strip()) is not None,
            "both queues have a worker",
        )
    finally:
        stack.remove()


@pytest.mark.containers
def test_compose_takes_the_worker_of_production(project: Path) -> None:
    follow(project, [step(project, "compose.reports.yaml")])
    [command] = (
        each.text.strip()
        for each in section(project / "docs/scaling.md", "Separate queues")
        if each.language == "sh" and "docker compose" in each.text
    )
    command = command.replace("up --detach --wait", "config --format json")
    asked = ("IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS")
    (project / "production.env").write_text("".join(f"{name}=given\n" for name in asked))
    services = json.loads(run(project, "sh", "-c", command))["services"]
    first, own = services["celery-worker"], services["celery-worker-reports"]
    assert first.pop("command")[-2:] == ["--exclude-queues", "reports"]
    assert own.pop("command")[-2:] == ["--queues", "reports"]
    assert own == first


# On Kubernetes

Manifests = dict[tuple[str, str], dict[str, Any]]


def manifests(template: Path, directory: Path, name: str, *, own: bool) -> Manifests:
    """The manifests after the section of the README, with or without separate workers.

    Each manifest fits the schema of Kubernetes or KEDA.
    """
    import kubernetes_validate

    project = render(template, directory / "project", **ANSWERS[name])
    steps = section(project / "kubernetes/README.md", "More queues")
    shared = [each for each in steps if "ScaledObject" in each.text]
    follow(project, [each for each in steps if each not in shared] if own else shared)
    found = built(project / "kubernetes/production")
    for (kind, _), manifest in found.items():
        if kind in KEDA:
            schema, file = directory / f"{kind}.schema.json", directory / f"{kind}.json"
            schema.write_text(json.dumps(keda_schema(kind)))
            file.write_text(json.dumps(manifest))
            run(ROOT, "check-jsonschema", "--schemafile", str(schema), str(file))
        else:
            kubernetes_validate.validate(manifest, "1.32", strict=True)
    return found


WITH_KEDA = [name for name in KUBERNETES if name != "socket"]


def queue(trigger: dict[str, Any]) -> str:
    metadata = trigger["metadata"]
    keys = ("listName", "queueName", "queueURL")
    return str(next(metadata[key] for key in keys if key in metadata))


@pytest.mark.live("kubectl")
@pytest.mark.parametrize("name", WITH_KEDA)
def test_workers_scale_by_a_second_queue_as_by_the_first(
    template: Path, tmp_path: Path, name: str
) -> None:
    found = manifests(template, tmp_path, name, own=False)
    first, second = found["ScaledObject", "celery-worker"]["spec"]["triggers"]
    assert (queue(first), queue(second)) == ("celery", "reports")
    assert first["metadata"].keys() == second["metadata"].keys()
    assert first | {"metadata": {}} == second | {"metadata": {}}


@pytest.mark.live("kubectl")
@pytest.mark.parametrize("name", KUBERNETES)
def test_a_queue_has_workers_of_its_own(template: Path, tmp_path: Path, name: str) -> None:
    found = manifests(template, tmp_path, name, own=True)
    names = ("celery-worker", "celery-worker-reports")
    first, own = (found["Deployment", each]["spec"] for each in names)
    containers = [each["template"]["spec"]["containers"][0] for each in (first, own)]
    assert containers[0].pop("command")[-1] == "--exclude-queues=reports"
    assert containers[1].pop("command")[-2:] == ["--queues", "reports"]
    assert containers[0] == containers[1]
    labels = [each["selector"]["matchLabels"] for each in (first, own)]
    assert labels[0] != labels[1]
    for each, deployment in zip(labels, (first, own), strict=True):
        assert each.items() <= deployment["template"]["metadata"]["labels"].items()
    for each, selector in zip(names, labels, strict=True):
        budget = found["PodDisruptionBudget", each]["spec"]
        assert budget["selector"]["matchLabels"].items() <= selector.items()
        if name in WITH_KEDA:
            scaled = found["ScaledObject", each]["spec"]
            assert scaled["scaleTargetRef"]["name"] == each
            assert [queue(it) for it in scaled["triggers"]] == [
                "celery" if each == names[0] else "reports"
            ]
    assert len([kind for kind, _ in found if kind == "TriggerAuthentication"]) == (
        name in WITH_KEDA
    )
