"""Projects with a user's edits, and what the tests of updates ask of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import copy_tree, git
from copier import run_copy
from releases import PARTS, releases, unpack
from rendering import ROOT

NEXT, FUTURE = "v99.0.0", "v100.0.0"
"""What the working tree is called here, and a fake release after it."""

HOUSE = [".git", "__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"]
"""What tools leave behind."""


def commit(project: Path, message: str = "As it is") -> None:
    if not (project / ".git").exists():
        git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new), encoding="utf-8")


def write(project: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, encoding="utf-8")


def tree(project: Path) -> dict[str, bytes]:
    """Every file of the project but what git and tools keep there."""
    return {
        file.relative_to(project).as_posix(): file.read_bytes()
        for file in project.rglob("*")
        if file.is_file() and not set(file.relative_to(project).parts) & set(HOUSE)
    }


SHOP = {
    "apps/shop/__init__.py": "",
    "apps/shop/migrations/__init__.py": "",
    "apps/shop/apps.py": (
        "from django.apps import AppConfig\n\n\n"
        'class ShopConfig(AppConfig):\n    name = "apps.shop"\n'
    ),
    "apps/shop/models.py": (
        "from django.db import models\n\n\n"
        "class Article(models.Model):\n"
        "    name = models.CharField(max_length=100)\n\n"
        "    def __str__(self) -> str:\n        return self.name\n"
    ),
    "apps/shop/migrations/0001_initial.py": (
        "from django.db import migrations, models\n\n\n"
        "class Migration(migrations.Migration):\n"
        "    initial = True\n    dependencies = []\n"
        "    operations = [\n        migrations.CreateModel(\n"
        '            name="Article",\n            fields=[\n'
        '                ("id", models.BigAutoField(auto_created=True, primary_key=True,'
        ' serialize=False, verbose_name="ID")),\n'
        '                ("name", models.CharField(max_length=100)),\n'
        "            ],\n        ),\n    ]\n"
    ),
    "apps/shop/services.py": (
        "from apps.shop.models import Article\n\n\n"
        "def restock() -> int:\n    return Article.objects.count()\n"
    ),
    "apps/shop/tasks.py": (
        "from celery import shared_task\n\nfrom apps.shop import services\n\n\n"
        "@shared_task\ndef restock() -> int:\n    return services.restock()\n"
    ),
    "apps/shop/schedules.py": (
        "from datetime import timedelta\n\n"
        "from apps.pipeline.schedules import Schedule\n\n"
        "SCHEDULES = [\n"
        '    Schedule(name="Restock", task="apps.shop.tasks.restock", when=timedelta(hours=1)),\n'
        "]\n"
    ),
    "apps/shop/tests/__init__.py": "",
    "apps/shop/tests/test_shop.py": (
        "from celery import Celery, current_app\n\n"
        "from apps.pipeline.schedules import declared\n"
        "from apps.shop.tasks import restock\n\n\n"
        "def test_restock(celery_app: Celery, db: None) -> None:\n"
        "    assert restock.delay().get() == 0\n"
        '    assert "Restock" in declared()\n'
        '    assert current_app.amqp.router.route({}, "apps.shop.tasks.restock")["queue"].name'
        ' == "mail"\n'
    ),
    "compose.override.yaml": (
        "services:\n  mail-worker:\n    image: my-project\n"
        "    command: celery -A config worker -l info -Q mail\n"
    ),
    "project.just": "# Say hello\nhello:\n    @echo hello from the shop\n",
    "docs/shop.md": "# The shop\n",
}


def edit(project: Path) -> None:
    """What users do: an app with models, a schedule, a queue, a service, a dependency, and more."""
    write(project, SHOP)
    settings = project / "config/settings/project.py"
    replace(settings, '"apps.users"]', '"apps.users", "apps.shop"]')
    replace(
        settings,
        "# CELERY_TASK_ROUTES = {}\n",
        'CELERY_TASK_ROUTES = {"apps.shop.tasks.*": {"queue": "mail"}}\n'
        'CELERY_TASK_QUEUES = {"celery": {}, "mail": {}}\n',
    )
    replace(
        project / "pyproject.toml",
        "updates change only the lines above.\n",
        'updates change only the lines above.\n    "six>=1.16",\n',
    )
    (project / "README.md").write_text("# The shop\n\nAll of it is ours.\n", encoding="utf-8")
    with (project / ".env").open("a") as secrets:
        secrets.write("SHOP_TOKEN=of-ours\n")
    (project / "apps/users/tests/test_services.py").unlink()
    (project / "apps/tasks/tests/test_services.py").rename(
        project / "apps/tasks/tests/test_registering.py"
    )
    shutil.rmtree(project / "apps/shop/__pycache__", ignore_errors=True)


@pytest.fixture(scope="session")
def history(own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a commit and a tag of each release, the working tree as the last."""
    repository = tmp_path_factory.mktemp("history") / "template"
    repository.mkdir()
    here = tmp_path_factory.mktemp("here") / "template"
    copy_tree(ROOT, here)
    git(repository, "init", "--quiet", "--initial-branch=main")
    for version in [*releases(), NEXT]:
        for part in PARTS:
            shutil.rmtree(repository / part, ignore_errors=True)
            (repository / part).unlink(missing_ok=True)
        if version == NEXT:
            for part in PARTS:
                copy = shutil.copytree if (here / part).is_dir() else shutil.copy
                copy(here / part, repository / part)
        else:
            unpack(version, repository)
        git(repository, "add", "--all", "--force")
        git(repository, "commit", "--quiet", "--allow-empty", "--message", version)
        git(repository, "tag", version)
    return repository


@pytest.fixture(scope="session")
def future(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history and a later release: a setting changed, a question and a page added."""
    repository = tmp_path_factory.mktemp("future") / "template"
    git(history.parent, "clone", "--quiet", str(history), str(repository))
    replace(
        repository / "template/config/settings/base.py",
        'LANGUAGE_CODE = "en-us"',
        'LANGUAGE_CODE = "en-gb"',
    )
    replace(
        repository / "template/pyproject.toml.jinja", '"whitenoise~=6.12"', '"whitenoise~=6.11"'
    )
    with (repository / "copier.yml").open("a") as questions:
        questions.write("\noffice:\n  type: str\n  help: Where is it? x.\n  default: Vienna\n")
    write(repository, {"template/docs/office.md.jinja": "# The office in {{ office }}\n"})
    # What is told is the same each time, whatever this template's own changelog says by now.
    git(repository, "checkout", "--quiet", releases()[0], "--", "CHANGELOG.md")
    replace(
        repository / "CHANGELOG.md",
        "## [Unreleased]\n",
        "## [Unreleased]\n\n## [100.0.0] - 2030-01-01\n\n### Added\n\n- A page about the office.\n",
    )
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", FUTURE)
    git(repository, "tag", FUTURE)
    return repository


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Copy a version of a repository by its name, and commit the project."""

    def made(template: Path | str, version: str, name: str = "project", **answers: object) -> Path:
        run_copy(
            str(template),
            tmp_path / name,
            data=answers,
            vcs_ref=version,
            defaults=True,
            quiet=True,
        )
        commit(tmp_path / name)
        return tmp_path / name

    return made
