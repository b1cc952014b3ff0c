"""The compose files: services, health checks, dependencies and networks."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.deployment_files import ANSWERS, COMPOSE, OURS, SERVERS, Project, files, services
from support.projects import run
from support.rendering import ROOT, render


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_files_fit_the_specification(combinations: list[Path], file: str) -> None:
    found = map(str, files(combinations, file))
    run(ROOT, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *found)


@pytest.mark.containers
@pytest.mark.parametrize("file", COMPOSE)
def test_docker_compose_accepts_the_files(combinations: list[Path], file: str) -> None:
    asked = (
        "IMAGE",
        "SECRETS_DIR",
        "DJANGO_ALLOWED_HOSTS",
        "SENTRY_DSN",
        "AWS_DEFAULT_REGION",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    given: dict[str, Any] = dict.fromkeys(asked, "given")
    options = ("--profile", "monitoring", "config", "--quiet")
    for found in files(combinations, file):
        run(
            found.parent,
            *("docker", "compose", "--file", file, *options),
            **given,
        )


def test_the_stack_has_the_services_that_the_answers_need(project: Project, name: str) -> None:
    monitoring = set()
    if "monitoring" in ANSWERS[name]:
        monitoring = {"flower", "prometheus"}
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
def test_every_running_service_has_a_health_check_and_restarts(
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
def test_services_that_use_the_database_wait_for_the_migrations(
    project: Project, name: str, file: str
) -> None:
    found = services(project(name) / file)
    for service in OURS:
        awaited = found[service]["depends_on"]["migrate"]
        assert awaited == {"condition": "service_completed_successfully"}


def test_a_server_outside_of_the_stack_keeps_its_password_in_the_environment(
    template: Path, tmp_path: Path
) -> None:
    answers = {"result_backend": "rediss://results.example.com:7000/1"}
    found = services(render(template, tmp_path / "shop", **answers) / "compose.yaml")
    given = found["web"]["environment"]
    assert given["CELERY_BROKER_URL"] == "redis://redis:6379/0"
    assert "CELERY_RESULT_BACKEND" not in given


def test_production_passes_on_the_variables_of_the_example(project: Project, name: str) -> None:
    example = (project(name) / ".env.example").read_text()
    given = services(project(name) / "compose.production.yaml")["celery-worker"]["environment"]
    by_a_file = {"DJANGO_SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
    of_compose = {"WEB_PORT", "FLOWER_PORT", "PROMETHEUS_PORT", "FLOWER_BASIC_AUTH"}
    by_an_answer = {"CELERY_BEAT_SCHEDULER"}
    mounted = {"SSL_CERT_FILE"}
    variables = set(re.findall(r"^# ([A-Z_]{4,})=", example, re.MULTILINE))
    assert variables - by_a_file - of_compose - by_an_answer - mounted <= given.keys()


def test_production_passes_on_the_master_of_the_sentinels_of_the_results(
    template: Path, tmp_path: Path
) -> None:
    answers = {
        "broker_url": "amqp://rabbitmq:5672//",
        "result_backend": "sentinel://one.example.com:26379/0",
    }
    found = services(render(template, tmp_path / "shop", **answers) / "compose.production.yaml")
    for service in OURS:
        assert "SENTINEL_MASTER" in found[service]["environment"], service


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
    assert published.keys() <= {"web", "flower", "prometheus"}
    assert published["web"] == ["127.0.0.1:${WEB_PORT:-8000}:8000"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    for service in published.keys() - {"web"}:
        assert services(project(name) / file)[service]["profiles"] == ["monitoring"]


def test_broker_and_database_are_in_internal_networks(project: Project, name: str) -> None:
    found = services(project(name) / "compose.yaml")
    networks = yaml.safe_load((project(name) / "compose.yaml").read_text())["networks"]
    for service in {"db", "redis", "rabbitmq"} & found.keys():
        (network,) = found[service]["networks"]
        assert networks[network] == {"internal": True}


def test_monitoring_services_exist_only_with_their_answer(project: Project) -> None:
    report = run(project("defaults"), "just", "monitoring", codes=(1,))
    assert "add flower or prometheus to monitoring" in report
    for name in ("rabbitmq", "elsewhere", "sqs"):
        assert "--profile monitoring" in run(project(name), "just", "--dry-run", "monitoring")
