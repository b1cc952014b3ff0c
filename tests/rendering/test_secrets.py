"""Secrets: no file contains one, and .env.example lists the variables."""

import re
from pathlib import Path

import pytest
import yaml

from support.deployment_files import ANSWERS, COMPOSE, Project, services, text
from support.git import git
from support.projects import write
from support.rendering import ROOT, render


@pytest.mark.parametrize("file", COMPOSE)
@pytest.mark.parametrize("name", [name for name in ANSWERS if ANSWERS[name].get("monitoring")])
def test_flower_does_not_start_without_a_password(project: Project, name: str, file: str) -> None:
    flower = services(project(name) / file)["flower"]
    script = text(flower["command"])
    assert re.search(r"\$\$\{FLOWER_BASIC_AUTH:\?[^}]+\}", script)
    assert "FLOWER_BASIC_AUTH" in flower["environment"]


def test_production_files_contain_no_secret(project: Project, name: str) -> None:
    content = (project(name) / "compose.production.yaml").read_text()
    code = "\n".join(line for line in content.splitlines() if not line.startswith("#"))
    with_default = set(re.findall(r"\$\{(\w+):?-", code))
    assert with_default <= {
        "APP_VERSION",
        "SENTRY_CHECK_INS",
        "STOP_GRACE",
        "SENTRY_TRACES_SAMPLE_RATE",
        "WEB_CONCURRENCY",
        "WEB_PORT",
        "FLOWER_PORT",
        "OTEL_SERVICE_NAME",
        "PROMETHEUS_PORT",
        "CELERY_WORKER_CONCURRENCY",
    }
    assert {"IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS"} <= set(
        re.findall(r"\$\{(\w+):\?[^}]+\}", code)
    )
    found = yaml.safe_load(content)
    for secret in found["secrets"].values():
        assert re.fullmatch(r"\$\{SECRETS_DIR(:\?[^}]+)?\}/\w+", secret["file"])
    for service in found["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|URL|AUTH|BACKEND", variable):
                assert value is None or str(value).startswith("/run/secrets/"), variable


def test_production_containers_are_read_only_and_without_capabilities(
    project: Project, name: str
) -> None:
    for service, found in services(project(name) / "compose.production.yaml").items():
        assert found["read_only"], service
        assert found["cap_drop"] == ["ALL"], service
        assert found["security_opt"] == ["no-new-privileges:true"], service
        assert found["logging"]["options"]["max-size"], service
        mounted = found.get("volumes", [])
        if service == "celery-beat" and ANSWERS[name].get("beat_scheduler") == "file":
            assert mounted == ["beat:/app/var"]
        elif service == "prometheus":
            assert mounted == ["./monitoring:/etc/prometheus:ro", "prometheus:/prometheus"]
        else:
            assert not mounted, service


def test_the_example_lists_all_variables_and_sets_none(project: Project, name: str) -> None:
    lines = (project(name) / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    readers = [*project(name).glob("compose*.yaml"), *project(name).glob("config/**/*.py")]
    read = "\n".join(file.read_text() for file in readers)
    names = re.findall(r"^# ([A-Z_]{4,})=", "\n".join(lines), re.MULTILINE)
    assert len(names) == len(set(names)) > 10
    by_libraries = {"SSL_CERT_FILE"}
    assert {name for name in names if name not in read} == by_libraries & {*names}
    passed = services(project(name) / "compose.production.yaml")["web"]["environment"]
    assert {name for name, value in passed.items() if value is None} <= {*names}
    by_settings = set(re.findall(r"\benv\.\w+\(\s*\"([A-Z_]+)\"", read))
    of_answers = {"METRICS_PORT", "RABBITMQ_CONSUMER_TIMEOUT", "SENTINEL_MASTER"}
    with_answers = {one for one in by_settings if one.startswith(("OTEL_", "SENTRY_"))} | of_answers
    assert len(by_settings) > 20
    assert by_settings - with_answers <= {*names}


def test_the_image_contains_no_secrets_and_no_git_history() -> None:
    ignored = (ROOT / "template" / ".dockerignore").read_text().splitlines()
    assert {"*.env", ".env.*", ".git", ".venv", "var"} <= set(ignored)


@pytest.mark.parametrize("name", [".env", "production.env", ".env.production"])
def test_git_ignores_files_with_secrets(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init")
    for file in (name, "config/settings/defaults.env", ".gitignore"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("PASSWORD=secret\n")
    (tmp_path / ".gitignore").write_text((ROOT / "template" / ".gitignore").read_text())
    git(tmp_path, "add", ".")
    assert set(git(tmp_path, "ls-files").split()) == {".gitignore", "config/settings/defaults.env"}


def test_the_first_commit_has_the_defaults_even_if_other_files_ignore_them(
    template: Path, tmp_path: Path
) -> None:
    """The user's own ignore file or one of an outer directory lists `*.env`."""
    project = render(template, tmp_path / "outer" / "project")
    write(tmp_path, {"ignore": "*.env\n", "outer/.gitignore": "*.env\n"})
    git(tmp_path / "outer", "init", "--quiet")
    git(tmp_path / "outer", "config", "core.excludesFile", str(tmp_path / "ignore"))
    git(tmp_path / "outer", "add", "--all")
    added = git(project, "ls-files", "*.env").split()
    assert added == ["config/settings/defaults.env"]
