"""Projects of all combinations: valid, formatted and small."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from support.git import git
from support.projects import COMBINATIONS, python_tree, run
from support.rendering import DEFAULTS, ROOT, recorded, render, render_all


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A project of each combination, each in its own directory under one root."""
    return render_all(template, tmp_path_factory.mktemp("combinations"), COMBINATIONS)


def rendered_from_jinja(project: Path) -> list[Path]:
    """The files of the project that are rendered with Jinja."""
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


def test_no_celery_setting_of_tests_names_the_real_broker(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project", beat_scheduler="redbeat")
    code = (
        "from django.conf import settings\n"
        "print([it for it in dir(settings) if 'real.example' in str(getattr(settings, it))])"
    )
    printed = run(
        project, sys.executable, "-c", code,
        DJANGO_SETTINGS_MODULE="config.settings.test", CELERY_BROKER_URL="redis://real.example/0",
    )  # fmt: skip
    assert printed == "[]\n"


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


def test_no_combination_has_superfluous_blank_lines(projects: list[Path]) -> None:
    for project in projects:
        for file in rendered_from_jinja(project):
            text = file.read_text(encoding="utf-8")
            assert text.strip(), f"{file} is empty"
            assert not re.search(r"\n[ \t]*\n[ \t]*\n", text), file
            assert not text.startswith("\n"), file
            assert text.endswith("\n"), file
            assert not text.endswith("\n\n"), file
            assert not re.search(r"[ \t]\n", text), f"{file} has blanks at the end of a line"


def test_python_files_do_not_depend_on_answers_except_for_optional_files(
    projects: list[Path],
) -> None:
    assert not list((ROOT / "template").rglob("*.py.jinja"))
    trees = {python_tree(project) for project in projects}
    names = [frozenset(name for name, _ in tree) for tree in trees]
    everywhere, somewhere = names[0].intersection(*names), names[0].union(*names)
    assert len(next(iter(trees)).union(*trees)) == len(somewhere)  # each name has one content
    assert somewhere - everywhere == {
        "apps/pipeline/admin.py",
        "apps/pipeline/beat/redbeat.py",
        "apps/pipeline/tests/test_admin.py",
    }


def test_the_answers_are_recorded_and_the_defaults_are_documented(
    template: Path, tmp_path: Path
) -> None:
    assert recorded(render(template, tmp_path / "project")) == DEFAULTS | {
        "parts_at_first": ["github"],
        "parts_now": ["github"],
    }


def test_a_copy_needs_no_trust_and_prints_no_warning(template: Path, tmp_path: Path) -> None:
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


def test_two_copies_differ_only_in_their_secret(template: Path, tmp_path: Path) -> None:
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
    """The number of lines without blank lines, comments and docstrings."""
    lines = dict(enumerate(source.splitlines(), start=1))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    lines.pop(number)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines.values())


def is_code(name: str) -> bool:
    """Whether a file is code of the project, and not its tests or migrations."""
    path = Path(name)
    in_folders = {"tests", "migrations"} & set(path.parts)
    return not in_folders and path.name not in ("conftest.py", "testing.py")


def test_the_default_project_stays_small(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    count = sum(lines_of_code(source) for name, source in python_tree(project) if is_code(name))
    assert count < 6900


def test_no_module_and_no_function_is_long(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project", beat_scheduler="redbeat")
    sources = {name: source for name, source in python_tree(project) if is_code(name)}
    modules = [name for name, source in sources.items() if len(source.splitlines()) > 200]
    functions = [
        f"{name}: {node.name}"
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 40
    ]
    assert (modules, functions) == ([], [])
