"""`just deploy-check`, which names missing and unsafe settings."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.deployment_files import Project
from support.projects import run


@pytest.fixture
def production(project: Project, tmp_path: Path) -> dict[str, Any]:
    """Variables with which `just deploy-check` finds no problem in the project "elsewhere"."""
    key = "a-key-of-more-than-fifty-characters-0123456789-abcdefghij"
    secrets = {
        "django_secret_key": key,
        "database_url": "postgres://app:password@db.example.com:5432/app",
        "celery_broker_url": "rediss://shop:password@cache.example.com/2",
        "celery_result_backend": "rediss://:password@results.example.com:7000/1",
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(0o400)
    return {
        "IMAGE": "registry.example.com/shop:1",
        "SECRETS_DIR": str(tmp_path),
        "DJANGO_ALLOWED_HOSTS": "shop.example.com",
        "SENTRY_DSN": "https://key@sentry.example.com/1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example.com",
    }


def test_deploy_check_succeeds_if_nothing_is_missing(
    project: Project, production: dict[str, Any]
) -> None:
    report = run(project("elsewhere"), "just", "deploy-check", **production)
    assert report.strip() == "System check identified no issues (0 silenced)."


def test_deploy_check_lists_everything_that_is_missing(project: Project) -> None:
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,))
    for name in (
        "IMAGE",
        "SECRETS_DIR",
        "DJANGO_ALLOWED_HOSTS",
        "SENTRY_DSN",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ):
        assert f"Set {name} to " in report
    for secret, content in {
        "django_secret_key": "python -c",
        "database_url": "postgres://name:password@host:5432/name",
        "celery_broker_url": "the whole URL, with the password",
        "celery_result_backend": "the whole URL, with the password",
    }.items():
        assert f"Create the file SECRETS_DIR/{secret}: {content}" in report
    assert "(0 silenced).\n9 settings are missing.\n" in report
    assert "FLOWER" not in report


@pytest.mark.parametrize(
    ("secret", "content", "words"),
    [
        ("django_secret_key", "", "Create the file {path}: python -c"),
        ("django_secret_key", "django-insecure-1", "DJANGO_SECRET_KEY is a default or short"),
        ("database_url", "postgres://db.example.com", "has no database name"),
        ("celery_broker_url", "redis://:secret@cache.example.com/2", "pipeline.W001"),
        ("celery_result_backend", "redis://:secret@results.example.com/1", "pipeline.W001"),
    ],
)
def test_deploy_check_names_each_secret_that_is_not_valid(
    project: Project, production: dict[str, Any], secret: str, content: str, words: str
) -> None:
    path = Path(production["SECRETS_DIR"]) / secret
    path.chmod(0o600)
    path.write_text(content)
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,), **production)
    assert words.format(path=path) in report
    assert ":secret@" not in report


def test_deploy_check_silences_what_the_project_and_the_environment_silence(
    project: Project, production: dict[str, Any]
) -> None:
    path = Path(production["SECRETS_DIR"]) / "celery_broker_url"
    path.chmod(0o600)
    path.write_text("redis://:secret@cache.example.com/2")
    settings = project("elsewhere") / "config" / "settings" / "project.py"
    before = settings.read_text()
    settings.write_text(before + '\nSILENCED_SYSTEM_CHECKS = ["pipeline.W001"]\n')
    try:
        production["SILENCED_SYSTEM_CHECKS"] = "pipeline.E001"
        report = run(project("elsewhere"), "just", "deploy-check", **production)
    finally:
        settings.write_text(before)
    assert report.strip() == "System check identified no issues (1 silenced)."


def test_deploy_check_names_a_secret_that_all_users_can_read(
    project: Project, production: dict[str, Any]
) -> None:
    path = Path(production["SECRETS_DIR"]) / "database_url"
    path.chmod(0o444)
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,), **production)
    assert f"All users of this machine can read {path}: " in report


def test_deploy_check_names_a_secret_that_you_cannot_read(
    project: Project, production: dict[str, Any]
) -> None:
    """The user is root, without the right to read the files of others."""
    secret = Path(production["SECRETS_DIR"]) / "celery_broker_url"
    os.chown(secret, 1000, 1000)
    without = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    command = (*without, "just", "deploy-check")
    report = run(project("elsewhere"), *command, codes=(1,), **production)
    assert f"You cannot read {secret}: run this as root, or as the user 1000.\n" in report
    assert "Traceback" not in report
