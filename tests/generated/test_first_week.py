"""A user's first apps, written as in tutorials, pass the project's checks."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from support.projects import SUITE_TIMEOUT, replace, run
from support.rendering import render

HERE = Path(__file__).parent
APPS = sorted(path.name for path in (HERE / "first_week").iterdir() if path.is_dir())
PACKAGES = str(HERE / "first_week_packages")


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project with all of these apps, and with a package without types."""
    project = render(template, tmp_path_factory.mktemp("first-week") / "project")
    names = ", ".join(f'"apps.{name}"' for name in APPS)
    settings, urls = project / "config/settings/project.py", project / "config/urls.py"
    replace(settings, '"apps.users"]', f'"apps.users", {names}]')
    for file in (settings, urls):
        added = (HERE / "first_week" / file.name.replace("project", "settings")).read_text()
        file.write_text(f"{file.read_text()}\n{added}")
    for name in APPS:
        shutil.copytree(HERE / "first_week" / name, project / "apps" / name)
    shutil.copy(HERE / "first_week/test_shop.py", project / "tests")
    run(project, "python", "manage.py", "makemigrations", *APPS, PYTHONPATH=PACKAGES)
    return project


def just(project: Path, *words: str) -> str:
    return run(project, "just", *words, PYTHONPATH=PACKAGES, MYPYPATH=PACKAGES)


def test_check_accepts_all_apps_after_format(project: Path) -> None:
    """Style, types with and without annotations, layers, migrations, production settings."""
    just(project, "format")
    report = just(project, "check")
    results = ["All checks passed", "already formatted", "Success", "4 kept, 0 broken"]
    results += ["No changes detected", "System check identified no issues"]
    assert [result for result in results if result not in report] == [], report


def test_their_tests_pass(project: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    places = [*(f"apps/{name}" for name in APPS), "tests/test_shop.py"]
    report = run(project, *command, *places, timeout=SUITE_TIMEOUT, PYTHONPATH=PACKAGES)
    assert re.search(r"\b25 passed", report), report


def test_a_mistake_is_still_an_error(project: Path) -> None:
    wrong, admin = project / "apps/reports/wrong.py", project / "apps/pipeline/admin.py"
    wrong.write_text("import os\n\n\ndef number() -> int:\n    return 'one'\n")
    before = admin.read_text() if admin.exists() else ""
    admin.write_text(f"{before}\nimport os\n\n\ndef place() -> None:\n    os.nowhere()\n")
    try:
        assert "F401" in run(project, "ruff", "check", "apps/reports", codes=(1,))
        report = run(project, "mypy", codes=(1,), MYPYPATH=PACKAGES)
        assert "wrong.py:5" in report
        assert "pipeline/admin.py" in report, "apps.pipeline has stricter rules than your admin.py"
    finally:
        wrong.unlink()
        admin.write_text(before) if before else admin.unlink()


def test_the_example_apps_can_be_deleted(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    shutil.rmtree(project / "apps/tasks")
    settings = project / "config/settings/project.py"
    replace(settings, '"apps.tasks", ', "")
    replace(settings, 'LANDING_TASK = "apps.tasks.tasks.example_task"\n', "")
    run(project, "just", "app", "zoo")  # the tests of the machinery do not mind its schedule
    assert "System check identified no issues" in run(project, "just", "check")
    report = run(project, sys.executable, "-m", "pytest", "-q", "-n", "2", timeout=SUITE_TIMEOUT)
    assert re.search(r"\d+ passed", report)
    assert "failed" not in report.splitlines()[-1]


def test_a_new_app_passes_check_and_its_tests(template: Path, tmp_path: Path) -> None:
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


def test_queues_are_declared_as_the_page_says(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    page = (project / "docs/scaling.md").read_text(encoding="utf-8")
    settings = project / "config/settings/project.py"
    [block] = re.findall(
        r'```python title="config/settings/project.py" append\n(.*?)```', page, re.S
    )
    route = next(line for line in block.splitlines() if "ROUTES" in line)
    before = settings.read_text(encoding="utf-8")
    settings.write_text(f"{before}\n{route}\n", encoding="utf-8")
    told = run(project, "python", "manage.py", "check", codes=(1,))
    assert "pipeline.E014" in told
    assert 'from kombu import Queue; CELERY_TASK_QUEUES = [Queue("reports")]' in told
    settings.write_text(f"{before}\n{block}", encoding="utf-8")
    assert "no issues" in run(project, "python", "manage.py", "check")
