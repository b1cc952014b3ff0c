"""Settings modules with a `.env` or a directory of their own."""

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import uuid
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from celery import Celery
from django.conf import settings as project
from django.test import override_settings

from apps.pipeline.conf import read_settings_directly

TIMEOUT = 60  # seconds
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "DJANGO_SECRET_KEY": uuid.uuid4().hex * 2,
    "DJANGO_ALLOWED_HOSTS": "example.com",
    "DATABASE_URL": "sqlite:///var/db.sqlite3",
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The settings of this project, in another project without a `.env`."""
    copy = tmp_path / "a#b?c%25 d"
    shutil.copytree(project.BASE_DIR / "config", copy / "config")
    (copy / "apps").symlink_to(project.BASE_DIR / "apps")
    (copy / "var").mkdir()
    return copy


def without_variables_of_libraries() -> dict[str, str]:
    ours = ("AWS_", "DATABASE_URL", "OTEL_", "SENTRY_", "SSL_CERT_", "DJANGO_SETTINGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def settings_of(project: Path, module: str, **variables: str) -> dict[str, Any]:
    """What a settings module of a project has, with no variable that a library reads but these."""
    config = ModuleType("config")
    config.__path__ = [str(project / "config")]
    with (
        patch.dict(os.environ, without_variables_of_libraries() | variables, clear=True),
        patch.dict(sys.modules),
    ):
        for name in [name for name in sys.modules if name.startswith("config.")]:
            del sys.modules[name]
        sys.modules["config"] = config
        return vars(import_module(f"config.settings.{module}"))


def printed(directory: Path, program: str, **variables: str) -> Any:
    """The JSON that a program prints, in a new process."""
    environment = without_variables_of_libraries() | variables
    command = [sys.executable, "-c", program]
    return json.loads(
        subprocess.check_output(command, cwd=directory, env=environment, timeout=TIMEOUT)
    )


class TestVariablesOfLibraries:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An environment without variables that a library reads, as a new process can have."""
        monkeypatch.setattr(os, "environ", without_variables_of_libraries())

    def exported(self, copied: Path, lines: str, **variables: str) -> dict[str, str | None]:
        (copied / ".env").write_text(lines)
        os.environ.update(variables)
        runpy.run_path(str(copied / "config" / "settings" / "env.py"))
        names = [line.partition("=")[0] for line in lines.splitlines()]
        return {name: os.environ.get(name) for name in names}

    def test_those_of_the_file_are_exported(self, copied: Path) -> None:
        lines = "AWS_REGION=eu-1\nOTEL_SERVICE_NAME='a shop'\nSSL_CERT_FILE=/certificates.pem\n"
        assert self.exported(copied, lines) == {
            "AWS_REGION": "eu-1",
            "OTEL_SERVICE_NAME": "a shop",
            "SSL_CERT_FILE": "/certificates.pem",
        }

    def test_the_environment_wins(self, copied: Path) -> None:
        (key := copied / "key").write_text("from a file")
        lines = "AWS_REGION=eu-1\nAWS_SECRET_ACCESS_KEY=old\n"
        variables = {"AWS_REGION": "eu-2", "AWS_SECRET_ACCESS_KEY_FILE": str(key)}
        found = self.exported(copied, lines, **variables)
        assert found == {"AWS_REGION": "eu-2", "AWS_SECRET_ACCESS_KEY": "from a file"}

    def test_others_and_empty_values_are_not_exported(self, copied: Path) -> None:
        lines = "DJANGO_SECRET_KEY=secret\nMY_AWS_KEY=secret\nAWS_PROFILE=\nOTEL_LOG_LEVEL\n"
        assert set(self.exported(copied, lines).values()) == {None}


def test_the_directory_of_the_project_can_have_any_name(copied: Path) -> None:
    database = settings_of(copied, "local")["DATABASES"]["default"]
    assert database["NAME"] == str(copied / "var" / "db.sqlite3")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgres://shop:secret/word@db/shop"),
        ("BEAT_LOCK_DATABASE_URL", "shop:secret@db"),
    ],
)
def test_a_wrong_database_url_ends_the_process_with_a_message(
    copied: Path, name: str, url: str
) -> None:
    with pytest.raises(SystemExit, match="invalid: Not a valid database URL") as ended:
        settings_of(copied, "local", **{name: url})
    assert "secret" not in str(ended.value)


def test_a_log_level_can_be_lower_case_or_empty(copied: Path) -> None:
    found = [settings_of(copied, "base", LOG_LEVEL=level)["LOGGING"] for level in ("debug", "")]
    assert [logging["root"]["level"] for logging in found] == ["DEBUG", "INFO"]


def test_defaults_that_are_added_later_survive_an_override() -> None:
    app = Celery("later", set_as_current=False)
    app.on_after_configure.connect(read_settings_directly)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    assert app.conf.task_acks_late is True  # reads the settings
    app.add_defaults(lambda: {"shop_currency": "EUR"})
    with override_settings(CELERY_TASK_ACKS_LATE=False):
        assert (app.conf.shop_currency, app.conf.task_acks_late) == ("EUR", False)
    assert (app.conf.shop_currency, app.conf.task_acks_late) == ("EUR", True)


WITHOUT_PACKAGES = """
import json, sys
sys.modules.update(dict.fromkeys(["opentelemetry", "sentry_sdk"]))
import django
django.setup()
print(json.dumps(django.conf.settings.INSTALLED_APPS))
"""


def test_production_starts_without_the_packages_of_an_answer_that_has_changed() -> None:
    variables = PRODUCTION | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "SENTRY_DSN": "https://key@127.0.0.1/1",
    }
    installed = printed(project.BASE_DIR, WITHOUT_PACKAGES, **variables)
    assert "apps.pipeline" in installed
    assert "apps.pipeline.traces" not in installed


def security(copied: Path, **variables: str) -> list[Any]:
    found = settings_of(copied, "production", **PRODUCTION | variables)
    age = found["DATABASES"]["default"].get("CONN_MAX_AGE")
    return [found["SECURE_HSTS_SECONDS"], found["CSRF_TRUSTED_ORIGINS"], age]


def test_settings_of_the_project_stay_in_production(copied: Path) -> None:
    assert security(copied) == [2_592_000, [], 60]
    pool = "postgres://db.example/shop?pool=true"
    assert security(copied, DATABASE_URL=pool) == [2_592_000, [], None]
    with (copied / "config" / "settings" / "project.py").open("a") as file:
        file.write('SECURE_HSTS_SECONDS = 9\nCSRF_TRUSTED_ORIGINS = ["https://a.example"]\n')
        file.write('DATABASES["default"]["CONN_MAX_AGE"] = 0\n')
    assert security(copied) == [9, ["https://a.example"], 0]
    assert security(copied, DJANGO_SECURE_HSTS_SECONDS="7") == [7, ["https://a.example"], 0]


def test_each_database_server_has_timeouts(copied: Path) -> None:
    options = [
        settings_of(
            copied, "production", **PRODUCTION | {"DATABASE_URL": f"{kind}://db.example/shop"}
        )["DATABASES"]["default"]["OPTIONS"]
        for kind in ("postgres", "mysql")
    ]
    assert options == [{"connect_timeout": 5, "tcp_user_timeout": 10_000}, {"connect_timeout": 5}]


READY = """
import json, django
django.setup()
from apps.pipeline.status.parts import database
print(json.dumps(database().words))
"""


def test_a_database_that_does_not_answer_is_an_error_soon(copied: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgres://127.0.0.1:{mute.getsockname()[1]}/shop?connect_timeout=2"
        words = printed(copied, READY, **PRODUCTION | {"DATABASE_URL": url})
    assert "does not answer: connection timeout expired" in words


def test_a_variable_of_the_environment_comes_before_a_file(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop"
    file.write_text("from the file")
    (copied / ".env").write_text(f"SHOP_FILE={file}\n")
    with (copied / "config" / "settings" / "env.py").open("a") as module:
        module.write('SHOP = env.str("SHOP")\n')
    assert settings_of(copied, "env")["SHOP"] == "from the file"
    assert settings_of(copied, "env", SHOP="the environment")["SHOP"] == "the environment"


class TestStorages:
    """The storages of a project in production."""

    def storages(self, copied: Path, lines: str) -> Any:
        base = "from config.settings.base import *\n"
        (copied / "config" / "settings" / "project.py").write_text(base + lines)
        found = settings_of(copied, "production", **PRODUCTION)["STORAGES"]
        return {name: one["BACKEND"].rpartition(".")[2] for name, one in found.items()}

    def test_whitenoise_serves_static_files(self, copied: Path) -> None:
        static = "CompressedManifestStaticFilesStorage"
        expected = {"default": "FileSystemStorage", "staticfiles": static}
        assert self.storages(copied, "") == expected
        lines = 'STORAGES = {"default": {"BACKEND": "storages.s3.S3Storage"}}\n'
        assert self.storages(copied, lines) == {"default": "S3Storage", "staticfiles": static}

    def test_the_project_can_choose_others(self, copied: Path) -> None:
        lines = 'STORAGES = {"staticfiles": {"BACKEND": "storages.s3.S3StaticStorage"}}\n'
        assert self.storages(copied, lines) == {"staticfiles": "S3StaticStorage"}


@pytest.mark.parametrize(("command", "settings"), [("test", "test"), ("shell", "local")])
def test_django_s_test_command_has_the_settings_of_tests(
    monkeypatch: pytest.MonkeyPatch, command: str, settings: str
) -> None:
    """It must not send tasks to the broker of `just dev`."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    monkeypatch.setattr(sys, "argv", ["manage.py", command])
    monkeypatch.setattr("django.core.management.execute_from_command_line", print)
    runpy.run_path(str(project.BASE_DIR / "manage.py"), run_name="__main__")
    assert os.environ["DJANGO_SETTINGS_MODULE"] == f"config.settings.{settings}"
