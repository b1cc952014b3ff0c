"""The files that depend on an answer."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from copier import run_copy

from support.rendering import render


@pytest.fixture(scope="session")
def tree(questionnaire: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with each file that depends on an answer, its namesakes, and excluded files."""
    directory = tmp_path_factory.mktemp("tree") / "template"
    copytree(questionnaire, directory)
    for name in [
        "apps/pipeline/beat/redbeat.py", "apps/tasks/redbeat.py", ".github/workflows/ci.yml",
        "docs/.github/ci.yml",
        ".gitlab-ci.yml", "docs/.gitlab-ci.yml", "kubernetes/web.yaml", "docs/kubernetes/page.md",
        "docs/kubernetes.md",
        "apps/__pycache__/a.cpython-311.pyc", "apps/b.pyc", ".DS_Store", "~draft",
        ".venv/pyvenv.cfg", "uv.lock",
        ".ruff_cache/x", ".mypy_cache/x", ".pytest_cache/x", "copier.yml", ".env",
    ]:  # fmt: skip
        path = directory / "template" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from the template\n")
    return directory


NAMESAKES = {
    "apps/tasks/redbeat.py", "docs/.github/ci.yml", "docs/.gitlab-ci.yml",
    "docs/kubernetes/page.md",
    "docs/kubernetes.md", "derived.yml", ".copier-answers.yml", ".env",
}  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "conditional"),
    [
        ({}, {".github/workflows/ci.yml"}),
        ({"ci": "gitlab"}, {".gitlab-ci.yml"}),
        ({"ci": "none"}, set()),
        ({"ci": "none", "kubernetes": True}, {"kubernetes/web.yaml"}),
        ({"ci": "none", "beat_scheduler": "redbeat"}, {"apps/pipeline/beat/redbeat.py"}),
    ],
)
def test_an_answer_adds_only_its_own_files(
    tree: Path, tmp_path: Path, answers: dict[str, Any], conditional: set[str]
) -> None:
    project = render(tree, tmp_path / "project", **answers)
    names = {p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()}
    assert names == NAMESAKES | conditional


def test_the_secrets_and_the_lock_file_of_a_project_are_never_overwritten(
    tree: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").write_text("SECRET=mine\n")
    (project / "uv.lock").write_text("mine\n")
    run_copy(str(tree), project, defaults=True, overwrite=True, quiet=True)
    assert (project / ".env").read_text() == "SECRET=mine\n"
    assert (project / "uv.lock").read_text() == "mine\n"
