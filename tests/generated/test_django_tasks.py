"""Django's Tasks API in a project, as its page says: with Django 5.2 and with Django 6.0."""

import re
import shutil
from pathlib import Path

import pytest

from support.projects import environment, in_own_environment, replace, run
from support.rendering import render
from support.tutorial import Reader
from support.tutorial_steps import blocks

HERE = Path(__file__).parent / "tasks_api"
LOADED = """
import sys
import django
django.setup()
print([name for name in sys.modules if name.startswith("apps.pipeline.django_tasks.")])
"""


def follow(project: Path, page: str, *, on_django_6: bool) -> None:
    """Do what a page of the project says."""
    with Reader(project, environment(VIRTUAL_ENV=""), {}) as reader:
        for block in blocks((project / "docs" / page).read_text(encoding="utf-8")):
            needed = block.language != "pycon"
            if needed and not (on_django_6 and "uv add django-tasks" in block.text):
                reader.follow(block)


def works(project: Path, *, on_django_6: bool) -> None:
    """Run the checks, the template's tests of the API, and a worker in a process of its own."""
    follow(project, "django-tasks.md", on_django_6=on_django_6)
    shutil.copy(HERE / "test_deadly.py", project / "tests")
    shutil.copy(HERE / "deadly.py", project / "apps/users")
    if on_django_6:
        for name in ("tasks", "deadly"):
            replace(project / f"apps/users/{name}.py", "from django_tasks", "from django.tasks")
    report = in_own_environment(project, "just", "check")
    assert "System check identified no issues" in report
    report = in_own_environment(project, "just", "test", "-q")
    assert re.search(r"\d+ passed", report.splitlines()[-1]), report
    assert "not installed: django-tasks" not in report


@pytest.mark.live
def test_with_django_5(template: Path, tmp_path: Path) -> None:
    works(render(template, tmp_path / "project"), on_django_6=False)


@pytest.mark.live
@pytest.mark.usefixtures("newer_python")
def test_with_django_6(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    follow(project, "django-6.md", on_django_6=False)
    works(project, on_django_6=True)


def test_nothing_is_imported_unless_tasks_names_it(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    local = "config.settings.local"
    assert run(project, "python", "-c", LOADED, DJANGO_SETTINGS_MODULE=local) == "[]\n"
