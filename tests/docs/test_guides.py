"""The code in the guides of docs/how-to, and the commands that the documentation names.

Each Python block of a guide names its file. All of them are written into one project of the default
answers, as a reader would, and judged as that project judges its own code.
"""

import re
import sys
from pathlib import Path

import pytest

from support.projects import SUITE_TIMEOUT, replace, run
from support.rendering import ROOT, render
from support.tutorial import Reader
from support.tutorial_steps import Block, blocks

GUIDES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
PROJECT_PAGES = sorted((ROOT / "template" / "docs").glob("*.md*"))
PAGES = [*GUIDES, *PROJECT_PAGES, ROOT / "docs" / "index.md", ROOT / "template" / "AGENTS.md"]
"""The pages that name commands of a project."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


CODE: list[tuple[Path, Block]] = [(page, block) for page in GUIDES for block in blocks(text(page))]
EDITS = [block for _, block in CODE if "title" in block.attributes]
APPS = sorted({block.attributes["title"].split("/")[1] for block in EDITS} - {"settings"})


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project with the code of all guides, each app a package with migrations."""
    project = render(template, tmp_path_factory.mktemp("guides") / "project")
    for app in APPS:
        for package in (app, f"{app}/tests", f"{app}/migrations"):
            (project / "apps" / package).mkdir()
            (project / "apps" / package / "__init__.py").touch()
    with Reader(project, {}, {}) as reader:
        for block in EDITS:
            reader.follow(block)
    names = ", ".join(f'"apps.{app}"' for app in APPS)
    settings = project / "config/settings/project.py"
    replace(settings, '"apps.users"]', f'"apps.users", {names}]')
    edited = {
        block.attributes["title"] for block in EDITS if block.language == "diff" or block.words
    }
    run(project, "ruff", "format", "--quiet", str(settings), *edited)
    run(project, "python", "manage.py", "makemigrations", *APPS)
    return project


def test_each_python_block_of_a_guide_names_its_file() -> None:
    nameless = [
        f"{page.name}:{block.line}"
        for page, block in CODE
        if block.language == "python" and "title" not in block.attributes
    ]
    assert nameless == []
    assert len(APPS) > 5
    assert not set(APPS) & {"pipeline", "tasks", "users"}  # the project has these


def test_the_guides_code_is_formatted_and_without_mistakes(project: Path) -> None:
    run(project, "ruff", "check", ".")
    run(project, "ruff", "format", "--check", ".")


def test_the_guides_code_is_rightly_typed(project: Path) -> None:
    assert "Success" in run(project, "mypy")


def test_the_guides_code_keeps_the_layers(project: Path) -> None:
    assert "0 broken" in run(project, "lint-imports")


def test_the_guides_settings_and_schedules_pass_the_checks(project: Path) -> None:
    assert "no issues" in run(project, "python", "manage.py", "check")


def test_the_guides_tests_pass(project: Path) -> None:
    for app in APPS:
        assert list((project / "apps" / app).rglob("test_*.py")), f"{app} has no test"
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    report = run(project, *command, *(f"apps/{app}" for app in APPS), timeout=SUITE_TIMEOUT)
    assert re.search(r"^\d+ passed", report.splitlines()[-1]), report


def test_the_python_blocks_of_a_projects_pages_compile() -> None:
    found = 0
    for page in PROJECT_PAGES:
        for block in blocks(text(page)):
            if block.language == "python":
                compile(block.text, f"{page.name}:{block.line}", "exec")
                found += 1
    assert found > 10


def commands(pattern: str) -> set[str]:
    """The matches of a pattern in the code of the pages, each with the words after it."""
    found = set()
    for page in PAGES:
        source = text(page)
        code = [block.text for block in blocks(source)] + re.findall(r"`([^`\n]+)`", source)
        found |= {match for piece in code for match in re.findall(pattern, piece)}
    return found


def test_each_recipe_that_a_page_names_is_there(project: Path) -> None:
    named = commands(r"\bjust (?:--dotenv-path \S+ )?([a-z][a-z-]*)")
    assert {"dev", "doctor", "template-update", "deploy-check"} <= named
    assert named <= set(run(project, "just", "--summary").split())


def test_each_command_of_django_that_a_page_names_is_there(project: Path) -> None:
    named = commands(r"\b(?:manage\.py|just manage) ([a-z_]+)")
    assert {"check", "sync_schedules", "migrate"} <= named
    assert named <= {*run(project, "python", "manage.py", "help", "--commands").split(), "help"}


def test_each_command_of_celery_that_a_page_names_is_there(project: Path) -> None:
    named = commands(r"\bcelery -A config ([a-z]+(?: [a-z_.]+)?)")
    assert {"inspect active", "control revoke", "purge"} <= named
    for command, _, sub in (line.partition(" ") for line in named):
        printed = run(project, "celery", "-A", "config", command, "--help")
        if command in ("inspect", "control"):
            printed = run(project, "celery", "-A", "config", command, "--list")
        assert not sub or re.search(rf"^\s*{re.escape(sub)}\b", printed, re.MULTILINE), sub


def test_the_checks_page_explains_each_id_once(project: Path) -> None:
    page = text(project / "docs" / "checks.md")
    explained = re.findall(r"^## (pipeline\.[EWI]\d+)$", page, re.MULTILINE)
    assert len(explained) == len(set(explained)) > 10
    code = "".join(text(file) for file in (project / "apps" / "pipeline").rglob("*.py"))
    assert set(explained) == set(re.findall(r'id="(pipeline\.[EWI]\d+)"', code))
