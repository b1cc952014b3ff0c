"""A user's first apps, written as tutorials write them, and the project's own judgement of them."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from projects import run
from rendering import ROOT, render
from updating import replace

HERE = ROOT / "tests"
APPS = sorted(path.name for path in (HERE / "first_week").iterdir() if path.is_dir())
PACKAGES = str(HERE / "first_week_packages")


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project with all of these apps, and a package without types beside it."""
    project = render(template, tmp_path_factory.mktemp("first-week") / "project")
    names = ", ".join(f'"apps.{name}"' for name in APPS)
    settings = project / "config/settings/project.py"
    replace(settings, '"apps.users"]', f'"apps.users", {names}, "untyped_package"]')
    for name in APPS:
        shutil.copytree(HERE / "first_week" / name, project / "apps" / name)
    run(project, "python", "manage.py", "makemigrations", *APPS, PYTHONPATH=PACKAGES)
    return project


def just(project: Path, *words: str) -> str:
    return run(project, "just", *words, PYTHONPATH=PACKAGES)


def test_format_mends_style_and_the_linter_has_nothing_to_add(project: Path) -> None:
    just(project, "format")
    run(project, "ruff", "check", ".")
    run(project, "ruff", "format", "--check", ".")


def test_types_are_right_with_and_without_annotations(project: Path) -> None:
    assert "Success" in run(project, "mypy", MYPYPATH=PACKAGES)


def test_the_layers_hold_and_services_send_tasks(project: Path) -> None:
    assert "0 broken" in run(project, "lint-imports", PYTHONPATH=PACKAGES)


def test_their_tests_pass(project: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    places = [f"apps/{name}" for name in APPS]
    report = run(project, *command, *places, PYTHONPATH=PACKAGES)
    assert re.search(r"\b9 passed", report), report


def test_a_mistake_is_still_told(project: Path) -> None:
    wrong = project / "apps/reports/wrong.py"
    wrong.write_text("import os\n\n\ndef number() -> int:\n    return 'one'\n")
    try:
        assert "F401" in run(project, "ruff", "check", "apps/reports", codes=(1,))
        assert "wrong.py:5" in run(project, "mypy", codes=(1,), MYPYPATH=PACKAGES)
    finally:
        wrong.unlink()


def test_the_samples_can_be_deleted(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    shutil.rmtree(project / "apps/tasks")
    settings = project / "config/settings/project.py"
    replace(settings, '"apps.tasks", ', "")
    replace(settings, 'LANDING_TASK = "apps.tasks.tasks.example_task"\n', "")
    assert "System check identified no issues" in run(project, "just", "check")
    report = run(project, sys.executable, "-m", "pytest", "-q", "-n", "2")
    assert re.search(r"\d+ passed", report)
    assert "failed" not in report.splitlines()[-1]


def test_an_app_of_ones_own_passes_check_and_its_tests(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    names = ["catalog", "apps/a_name_that_is_nearly_as_long_as_it_may_be", "zoo"]
    assert "at most 40" not in run(project, "just", "app", names[0])
    run(project, "just", "app", names[1], codes=(1,))  # 42 letters
    run(project, "just", "manage", "startapp", "apps/a_name_that_is_as_long_as_it_may_be_here")
    run(project, "just", "app", names[2])
    assert "System check identified no issues" in run(project, "just", "check")
    report = run(project, sys.executable, "-m", "pytest", "-q", "apps/catalog", "apps/zoo")
    assert "6 passed" in report
    shell = "from apps.pipeline.schedules import declared; print(*sorted(declared()))"
    printed = run(project, "just", "manage", "shell", "--verbosity", "0", "--command", shell)
    assert "Archive old items of catalog" in printed


def test_what_a_route_names_is_declared_as_the_page_says(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    page = (project / "docs/scaling.md").read_text(encoding="utf-8")
    settings = project / "config/settings/project.py"
    [block] = re.findall(r'```python title="config/settings/project.py"\n(.*?)```', page, re.S)
    route = next(line for line in block.splitlines() if "ROUTES" in line)
    before = settings.read_text(encoding="utf-8")
    settings.write_text(f"{before}\n{route}\n", encoding="utf-8")
    told = run(project, "python", "manage.py", "check", codes=(1,))
    assert "pipeline.E014" in told
    assert 'CELERY_TASK_QUEUES = [Queue("celery"), Queue("reports")]' in told
    settings.write_text(f"{before}\n{block}", encoding="utf-8")
    assert "no issues" in run(project, "python", "manage.py", "check")
