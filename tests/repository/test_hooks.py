"""The hooks that `just hooks` installs, here and in a project, and the issue forms of .github."""

import sys
from pathlib import Path

import pytest
import yaml

from support.git import git
from support.projects import run
from support.rendering import ROOT, render

WORKFLOW = """
on: push
jobs:
  bad:
    runs-on: ubuntu-24.04
    steps:
      - run: echo ${{ github.nothing }} ${{ github.event.issue.title }}
"""

MISTAKES = {
    "ruff-format": ("apps/tasks/spaced.py", "x  =  1\n"),
    "ruff-check": ("apps/tasks/undefined.py", "print(undefined)\n"),
    "yaml": ("bad.yaml", "a: [1\n"),
    "toml": ("bad.toml", "a =\n"),
    "shellcheck": ("bad.sh", "#!/bin/sh\nrm $1\n"),
    "workflows": (".github/workflows/bad.yml", WORKFLOW),
    "zizmor": (".github/workflows/unsafe.yml", WORKFLOW),
    "spelling": ("notes.md", "This is " + "het"[::-1] + " file.\n"),
    "mypy": ("apps/tasks/typed.py", 'number: int = "1"\n'),
}
"""By the id of a hook, a file that it has to refuse."""


def execute(directory: Path, *command: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command whose `uv run` finds the tools of this environment, and installs nothing."""
    return run(directory, *command, codes=codes, UV_PROJECT_ENVIRONMENT=sys.prefix, UV_NO_SYNC="1")


def hooks(directory: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    return execute(directory, "just", "hooks", *arguments, codes=codes)


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    project = render(template, tmp_path / "shop")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "As the template made it")
    return project


def test_this_repository_passes_its_hooks(template: Path) -> None:
    hooks(template, "run", "--all-files")


def test_a_new_project_passes_its_hooks(project: Path) -> None:
    hooks(project, "run", "--all-files")


def test_a_commit_with_mistakes_is_refused_by_each_hook(project: Path) -> None:
    hooks(project)
    for name, content in MISTAKES.values():
        (project / name).write_text(content, encoding="utf-8")
    git(project, "add", "--all")
    said = execute(project, "git", "commit", "--message", "Mistakes", codes=(1,))
    said += hooks(project, "run", "--all-files", "--hook-stage", "pre-push", codes=(1,))
    refused = {line.split("hook id: ")[1] for line in said.splitlines() if "hook id: " in line}
    assert refused == set(MISTAKES)


def test_both_have_the_same_hooks() -> None:
    own, of_a_project = (
        yaml.safe_load((directory / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
        for directory in (ROOT, ROOT / "template")
    )
    for configuration in (own, of_a_project):
        [repository] = configuration["repos"]
        assert repository["repo"] == "local"  # prek downloads only packages
        for hook in repository["hooks"]:
            for where in ("files", "exclude"):
                hook.pop(where, None)
    assert own == of_a_project


def test_forms_and_workflows_fit_their_schemas() -> None:
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    for schema, files in {
        "github-issue-forms": [form for form in forms.glob("*.yml") if form.stem != "config"],
        "github-issue-config": [forms / "config.yml"],
        "github-workflows": [*ROOT.glob("template/.github/workflows/*.yml")],
    }.items():
        assert files
        run(ROOT, "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files))
