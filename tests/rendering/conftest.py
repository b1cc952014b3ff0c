"""Fixtures: rendered projects."""

from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from support.deployment_files import ANSWERS, EVERY_MONITOR, Project
from support.projects import COMBINATIONS
from support.rendering import render, render_all


@pytest.fixture(scope="session")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one of the answers above, which is rendered once."""
    root = tmp_path_factory.mktemp("projects")

    @cache
    def rendered(name: str) -> Path:
        return render(template, root / name.replace(" ", "-"), **ANSWERS[name])

    return rendered


@pytest.fixture(scope="session")
def combinations(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A project of each combination, in turn with few and with all optional parts."""
    around: list[dict[str, Any]] = [
        {"kubernetes": True},
        {"kubernetes": True, "monitoring": EVERY_MONITOR, "ci": "gitlab"},
    ]
    answers = [combination | more for combination, more in zip(COMBINATIONS, cycle(around))]
    return render_all(template, tmp_path_factory.mktemp("all-projects"), answers)


@pytest.fixture(params=ANSWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
