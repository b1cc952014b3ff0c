"""Projects with a user's edits, and helpers of the update tests."""

import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from copier import run_update

from support.projects import replace, run, write
from support.rendering import ROOT

Make = Callable[..., Path]
"""The type of the fixture `make`: copies a version of the template and commits the project."""

NEXT, FUTURE = "v99.0.0", "v100.0.0"
"""The version of the working tree in the tests, and a fake release after it."""

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
    """Edit a project as users do: add an app, a schedule, a queue, a service and a dependency."""
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


def rows() -> dict[str, str]:
    """The owner of each pattern of files, from the table in docs/updates.md."""
    page = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (`.+`) \| (the template's|shared|yours) \|$", page, re.MULTILINE)
    return {pattern: owner for cell, owner in found for pattern in re.findall(r"`(.+?)`", cell)}


def owners(name: str) -> list[str]:
    return [owner for pattern, owner in rows().items() if fnmatchcase(name, pattern)]


def merge(project: Path, *, code: int = 0) -> str:
    """Run `bin/template merge`, which has to exit with this code. Return its output."""
    return run(project, "sh", "bin/template", "merge", codes=(code,))


def step(project: Path, ci: str) -> str:
    """The shell script of the scheduled update in the pipeline."""
    if ci == "github":
        file = project / ".github/workflows/template-update.yml"
        return str(yaml.safe_load(file.read_text())["jobs"]["update"]["steps"][-1]["run"])
    jobs = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    return str(jobs["template-update"]["script"][0])


def update(project: Path) -> None:
    """Update a project to the working tree."""
    run_update(project, vcs_ref=NEXT, defaults=True, overwrite=True, quiet=True)
