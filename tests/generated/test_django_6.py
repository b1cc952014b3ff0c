"""The default project with Django 6.0 and Python 3.12 or newer, as in docs/django-6.md."""

import re
from pathlib import Path

import pytest

from support.projects import environment, in_own_environment
from support.rendering import render
from support.tutorial import Reader
from support.tutorial_steps import blocks


@pytest.mark.live
@pytest.mark.usefixtures("newer_python")
def test_check_and_suite_are_green(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    with Reader(project, environment(VIRTUAL_ENV=""), {}) as reader:
        for block in blocks((project / "docs/django-6.md").read_text(encoding="utf-8")):
            reader.follow(block)
    version = "import django; print(*django.VERSION[:2])"
    assert in_own_environment(project, "python", "-c", version).endswith("6 0\n")
    report = in_own_environment(project, "just", "check")
    assert "System check identified no issues" in report
    report = in_own_environment(project, "just", "test", "-q")
    assert re.search(r"\d+ passed", report.splitlines()[-1]), report
