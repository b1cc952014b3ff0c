"""Every project that the prompts allow: well-formed, clean, and green in its own suite."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import git
from projects import COMBINATIONS, python_tree, run
from rendering import ROOT, recorded, render, render_all

SUITES = [
    {},
    {"beat_scheduler": "redbeat", "result_backend": "none", "time_zone": "Europe/Berlin"},
    {
        "broker_url": "amqp://rabbitmq:5672//",
        "beat_scheduler": "file",
        "monitoring": ["flower", "prometheus", "sentry"],
        "kubernetes": True,
        "ci": "gitlab",
    },
]
"""Answers whose suites are run: each scheduler, results in Redis, a database and nowhere."""


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A project of every combination, each in a directory of its own under one root."""
    return render_all(template, tmp_path_factory.mktemp("combinations"), COMBINATIONS)


def rendered_from_jinja(project: Path) -> list[Path]:
    """The files of the project that the template writes with Jinja."""
    sources = (ROOT / "template").rglob("*.jinja")
    names = [source.relative_to(ROOT / "template").with_suffix("") for source in sources]
    return [project / name for name in names if (project / name).exists()]


def test_every_combination_passes_the_linter_and_the_formatter(projects: list[Path]) -> None:
    root = projects[0].parent
    run(root, "ruff", "check", "--quiet", "--no-cache", ".")
    run(root, "ruff", "format", "--check", "--quiet", "--no-cache", ".")


def test_every_combination_compiles(projects: list[Path]) -> None:
    trees = set().union(*map(python_tree, projects))
    for name, source in trees:
        compile(source, name, "exec", dont_inherit=True)


def test_every_combination_has_valid_toml_and_yaml(projects: list[Path]) -> None:
    for project in projects:
        for file in project.rglob("*.toml"):
            tomllib.loads(file.read_text(encoding="utf-8"))
        for file in [*project.rglob("*.y*ml"), *project.glob(".*.yml")]:
            list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def test_no_combination_has_a_trace_of_jinja(projects: list[Path]) -> None:
    for project in projects:
        for file in rendered_from_jinja(project):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"(?<!\$)\{\{|\{%|\{#", text), file
            assert "Undefined" not in text, file
        assert not list(project.rglob("*.jinja"))


def test_no_combination_has_holes_of_blank_lines(projects: list[Path]) -> None:
    for project in projects:
        for file in rendered_from_jinja(project):
            text = file.read_text(encoding="utf-8")
            assert text.strip(), f"{file} is empty"
            assert not re.search(r"\n[ \t]*\n[ \t]*\n", text), file
            assert not text.startswith("\n"), file
            assert text.endswith("\n"), file
            assert not text.endswith("\n\n"), file
            assert not re.search(r"[ \t]\n", text), f"{file} has blanks at the end of a line"


def test_python_files_hold_no_answers_and_differ_only_in_which_there_are(
    projects: list[Path],
) -> None:
    assert not list((ROOT / "template").rglob("*.py.jinja"))
    trees = {python_tree(project) for project in projects}
    names = [frozenset(name for name, _ in tree) for tree in trees]
    everywhere, somewhere = names[0].intersection(*names), names[0].union(*names)
    assert len(next(iter(trees)).union(*trees)) == len(somewhere)  # of each name there is one
    assert somewhere - everywhere == {
        "apps/pipeline/admin.py",
        "apps/pipeline/beat/redbeat.py",
        "apps/pipeline/tests/test_admin.py",
    }


def test_the_answers_are_recorded_and_the_defaults_are_the_documented_ones(
    template: Path, tmp_path: Path
) -> None:
    assert recorded(render(template, tmp_path / "project")) == {
        "project_name": "My Project",
        "project_slug": "my-project",
        "description": "A Django project with Celery workers and scheduled tasks.",
        "time_zone": "UTC",
        "broker_url": "redis://redis:6379/0",
        "result_backend": "redis",
        "beat_scheduler": "database",
        "monitoring": [],
        "kubernetes": False,
        "ci": "github",
        "parts_at_first": ["github"],
        "parts_now": ["github"],
    }


@pytest.mark.parametrize(
    "answers", SUITES, ids=lambda answers: answers.get("beat_scheduler", "database")
)
def test_the_generated_suite_is_green(copie: Any, answers: dict[str, object]) -> None:
    result = copie.copy(extra_answers=answers)
    assert result.exception is None
    report = run(result.project_dir, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\d+ passed", report)
    assert not re.search(r"failed|error", report.splitlines()[-1])


def test_just_dev_serves_its_page_and_ends_whole_however_it_is_ended(
    template: Path, tmp_path: Path
) -> None:
    project = render(template, tmp_path / "project")
    module = "apps/pipeline/tests/test_dev.py"
    report = run(project, sys.executable, "-m", "pytest", "-q", "-m", "faults", module)
    assert re.search(r"^\d+ passed", report.splitlines()[-1]), report


@pytest.mark.parametrize(
    "answers",
    [{}, {"beat_scheduler": "redbeat", "result_backend": "django-db"}],
    ids=["least", "most"],
)
def test_each_python_file_is_type_clean(
    template: Path, tmp_path: Path, answers: dict[str, str]
) -> None:
    project = render(template, tmp_path / "project", **answers)
    assert "Success" in run(project, "mypy")


def test_the_projects_own_check_is_green(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    report = run(project, "just", "check")
    assert "System check identified no issues" in report


def test_recipes_pass_quoted_words_on(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    words = ("shell", "--verbosity", "0", "--command", "print('six and', 6 * 7)")
    assert run(project, "just", "manage", *words) == "six and 42\n"
    collected = run(project, "just", "test", "--collect-only", "-q", "-k", "inactive or example")
    assert {"TestCleanupInactiveUsersTask", "TestExampleTask"} <= set(collected.split("::"))


def test_a_copy_needs_no_trust_and_gives_no_warning(template: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "copier", "copy", "--defaults", str(template), "project").lower()
    assert not re.search("warn|trust|unsafe|no git tags", printed)
    assert (tmp_path / "project" / "manage.py").exists()


def test_the_generated_secret_is_only_in_the_ignored_file(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    key = re.search(r"^DJANGO_SECRET_KEY=(\w{64})$", (project / ".env").read_text(), re.MULTILINE)
    assert key
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    tracked = git(project, "ls-files").split()
    assert ".env" not in tracked
    assert ".copier-answers.yml" in tracked
    for name in tracked:
        assert key[1] not in (project / name).read_text(encoding="utf-8"), name


def test_each_copy_gets_a_secret_of_its_own_and_everything_else_alike(
    template: Path, tmp_path: Path
) -> None:
    one, other = (render(template, tmp_path / name) for name in ("one", "other"))
    differing = [
        str(file.relative_to(one))
        for file in one.rglob("*")
        if file.is_file() and file.read_bytes() != (other / file.relative_to(one)).read_bytes()
    ]
    assert differing == [".env"]


def test_copying_again_keeps_the_secret(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    before = (project / ".env").read_bytes()
    render(template, project)
    assert (project / ".env").read_bytes() == before


def lines_of_code(source: str) -> int:
    """How many lines there are without blank lines, comments and docstrings."""
    lines = dict(enumerate(source.splitlines(), start=1))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    lines.pop(number)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines.values())


def test_the_default_project_stays_small(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    count = sum(
        lines_of_code(source)
        for name, source in python_tree(project)
        if "tests" not in Path(name).parts
        and "migrations" not in Path(name).parts
        and Path(name).name not in ("conftest.py", "testing.py")
    )
    assert count < 3000
