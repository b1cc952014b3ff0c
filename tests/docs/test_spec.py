"""The specification, `tests/docs/celery-and-tasks.md`, line by line against a default project.

Each line is in the generated page `docs/celery-and-tasks.md`, in a snippet that runs here, or in
`CHANGED`. The tests run each snippet and command, and check each path and table row.
"""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from support.projects import SUITE_TIMEOUT, run
from support.rendering import render

SPEC = Path(__file__).with_name("celery-and-tasks.md").read_text(encoding="utf-8")

CHANGED = {
    # A line of the specification, and the line of the generated page that replaces it.
    "Django Velocity includes": "My Project includes",
    "from datetime import datetime, timedelta": "from django.utils import timezone",
    'example_task.apply_async(args=["Hello!"], eta=datetime.now() + timedelta(hours=1))': (
        'example_task.apply_async(args=["Hello!"], eta=timezone.now() + timedelta(hours=1))'
    ),
    "Create a service for registering periodic tasks:": "`apps/tasks/services.py` has a service:",
    "Then call from `apps.py`:": "Do not call it from `AppConfig.ready()`",
}


def snippets() -> list[str]:
    """The Python snippets of the specification, in order."""
    return re.findall(r"```python[^\n]*\n(.*?)```", SPEC, re.DOTALL)


TASK, CALLS, SERVICE, APP_CONFIG, TEST, FIXTURE = snippets()


HEAD = "import pytest\nfrom apps.tasks.tasks import example_task\n"
USE = """
def test_use(celery_app):
    assert example_task.delay("Hello").get() == "Processed: Hello"
"""

TRIALS = {
    "the_task_snippet_is_a_task_that_calls_the_service": f"""
import pytest
from apps.tasks import tasks

SNIPPET = {TASK!r}

@pytest.mark.django_db
def test_snippet():
    scope = {{"__name__": "spec.tasks"}}
    exec(SNIPPET, scope)
    task = scope["cleanup_inactive_users_task"]
    assert task.name == "spec.tasks.cleanup_inactive_users_task"
    assert task() == 0
    assert tasks.cleanup_inactive_users_task.name == "apps.tasks.tasks.cleanup_inactive_users_task"
    assert tasks.cleanup_inactive_users_task() == 0
""",
    "the_service_has_the_signature_and_the_effect_of_the_snippet": f"""
import inspect
import pytest
from apps.tasks import services
from django_celery_beat.models import PeriodicTask

def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

@pytest.mark.django_db
def test_snippet():
    scope = {{}}
    exec({SERVICE!r}, scope)
    theirs, ours = scope["register_periodic_task"], services.register_periodic_task
    assert parameters(theirs) == parameters(ours)
    rows = []
    for number, register in enumerate((theirs, ours)):
        for every in (30, 10):
            row = register(name=str(number), task_path="apps.tasks.tasks.example_task", every=every)
            assert isinstance(row, PeriodicTask)
        rows.append((row.task, row.interval, row.enabled))
    assert rows[0] == rows[1]
    assert PeriodicTask.objects.filter(name__in=("0", "1")).count() == 2
""",
    "what_the_apps_snippet_registers_is_scheduled_after_migrate": f"""
import pytest
from django.apps import apps
from django_celery_beat.models import PeriodicTask

@pytest.mark.django_db
def test_snippet():
    row = PeriodicTask.objects.get(name="Cleanup inactive users")
    declared = (row.task, str(row.interval), row.enabled)
    row.delete()
    scope = {{"__name__": "apps.tasks.apps"}}
    exec({APP_CONFIG!r}, scope)
    scope["TasksConfig"].ready(apps.get_app_config("tasks"))
    row = PeriodicTask.objects.get(name="Cleanup inactive users")
    assert (row.task, str(row.interval), row.enabled) == declared
    assert type(apps.get_app_config("tasks")).__name__ == "TasksConfig"
""",
    "the_admin_has_the_page_that_it_names": """
from django.urls import reverse

def test_periodic_tasks(admin_client):
    index = admin_client.get(reverse("admin:index")).content.decode()
    assert index.lower().count("periodic tasks") >= 2
    page = admin_client.get(reverse("admin:django_celery_beat_periodictask_add")).content.decode()
    for field in ("regtask", "interval", "crontab"):
        assert f'name="{field}"' in page
    assert "apps.tasks.tasks.example_task" in page
""",
    "the_calls_work_in_place": f"""
from apps.tasks.tasks import example_task

def test_specification(celery_app):
    exec({CALLS!r}, {{"example_task": example_task}})
""",
    "the_calls_of_the_page_reach_a_real_worker": """
import re
from pathlib import Path
from xml.etree import ElementTree
from apps.tasks.tasks import example_task

def test_page(live_worker):
    page = Path("docs/celery-and-tasks.md").read_text()
    calls = re.search(r"```python\\n(# Immediate.*?)```", page, re.DOTALL)[1]
    exec(calls, {"example_task": example_task})
    assert example_task.delay("Hello!").get(timeout=60) == "Processed: Hello!"
""",
    "the_test_snippet_passes": TEST,
    "the_fixture_snippet_works": HEAD + FIXTURE + USE,
    "the_fixture_that_is_there_works_and_gives_the_application": (
        HEAD + USE + "    assert celery_app.main == 'config'"
    ),
}
"""Test modules that run in the project, by name."""


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(template, tmp_path_factory.mktemp("spec") / "project")


@pytest.fixture(scope="module")
def outcomes(project: Path) -> dict[str, list[str]]:
    """The errors of each of the `TRIALS`, which run together. One that did not run is missing."""
    for name, source in TRIALS.items():
        (project / "tests" / f"test_{name}.py").write_text(source, encoding="utf-8")
    modules = [f"tests/test_{name}.py" for name in TRIALS]
    run(
        project,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--junit-xml=report.xml",
        *modules,
        codes=(0, 1),
        timeout=SUITE_TIMEOUT,
    )
    wrong: dict[str, list[str]] = {}
    for case in ElementTree.parse(project / "report.xml").iter("testcase"):  # noqa: S314
        name = case.attrib["classname"].split(".")[1].removeprefix("test_")
        wrong.setdefault(name, []).extend(problem.text or problem.tag for problem in case)
    return wrong


def setting(project: Path, *names: str) -> list[str]:
    """The values of the project's settings without environment variables."""
    program = f"from config.settings import base; [print(getattr(base, n)) for n in {names!r}]"
    return run(project, sys.executable, "-c", program).splitlines()


def test_every_line_is_in_the_page_or_in_a_snippet_or_changed(project: Path) -> None:
    page = (project / "docs" / "celery-and-tasks.md").read_text(encoding="utf-8")
    fences = {line for line in SPEC.splitlines() if line.startswith("```")}
    accounted = {*page.splitlines(), *fences}
    for snippet in (SERVICE, APP_CONFIG, FIXTURE):
        accounted |= set(snippet.splitlines())
    left = [line for line in SPEC.splitlines() if line not in accounted]
    assert not [line for line in left if not line.startswith(tuple(CHANGED))]
    assert not [line for line in CHANGED if line not in SPEC], "no longer in the specification"
    assert not [said for said in CHANGED.values() if said not in page], "not said by the page"


def test_all_files_in_the_specification_exist(project: Path) -> None:
    named = set(re.findall(r'title="([^"]+)"|`(config/[\w/]+\.py)`', SPEC))
    paths = {path for pair in named for path in pair if path}
    assert paths == {
        "apps/tasks/apps.py",
        "apps/tasks/services.py",
        "apps/tasks/tasks.py",
        "apps/tasks/tests/test_tasks.py",
        "config/settings/celery.py",
    }
    for path in paths:
        assert (project / path).is_file(), path


def test_all_commands_are_recipes(project: Path) -> None:
    commands = re.findall(r"^just ([\w-]+)", SPEC, re.MULTILINE)
    assert commands == ["up", "celery-logs", "celery-beat-logs"]
    does = {name: run(project, "just", "--show", name) for name in commands}
    assert "docker compose up" in does["up"]
    assert "docker compose logs --follow celery-worker" in does["celery-logs"]
    assert "docker compose logs --follow celery-beat" in does["celery-beat-logs"]


def test_just_up_starts_the_listed_services(project: Path) -> None:
    named = re.search(r"^just up +# Starts (.*)$", SPEC, re.MULTILINE)
    assert named
    services = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(named[1].split(", ")) <= services.keys()
    for service in named[1].split(", "):
        assert not services[service].get("profiles"), service


def test_the_services_have_the_commands_of_the_table(project: Path) -> None:
    rows = re.findall(r"^\| `(celery-[a-z]+)` \| `([^`]+)` \|", SPEC, re.MULTILINE)
    assert len(rows) == 2
    services = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name, command in rows:
        given = services[name]["command"]
        assert (given if isinstance(given, str) else " ".join(given)) == command


@pytest.mark.parametrize("trial", TRIALS)
def test_snippet(trial: str, outcomes: dict[str, list[str]]) -> None:
    assert outcomes[trial] == []


def test_check_and_migrate_work_on_an_empty_database(project: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/empty.sqlite3"
    for command in (["check"], ["migrate", "--verbosity", "0"], ["sync_schedules", "--check"]):
        run(project, sys.executable, "manage.py", *command, DATABASE_URL=database)


def test_the_settings_have_the_defaults_of_the_table(project: Path) -> None:
    rows = dict(re.findall(r"^\| `(CELERY_\w+)` \| (.+?) \|", SPEC, re.MULTILINE))
    assert len(rows) == 4
    broker, backend, limit, scheduler = setting(project, *rows)
    assert f"`{broker}`" == rows["CELERY_BROKER_URL"]
    assert f"`{backend}`" == rows["CELERY_RESULT_BACKEND"]
    assert f"{int(limit) // 60} minutes" == rows["CELERY_TASK_TIME_LIMIT"]
    assert f"`{scheduler.partition(':')[2]}`" == rows["CELERY_BEAT_SCHEDULER"]
    program = (
        "import django; django.setup();"
        "from django_celery_beat.schedulers import DatabaseScheduler;"
        "from kombu.utils.imports import symbol_by_name;"
        f"assert issubclass(symbol_by_name({scheduler!r}), DatabaseScheduler)"
    )
    run(project, sys.executable, "-c", program, DJANGO_SETTINGS_MODULE="config.settings.test")
