"""The test suites, linters, types and recipes of projects."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from support.projects import SUITE_TIMEOUT, run
from support.rendering import render

SUITES = [
    {},
    {
        "broker_url": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
        "beat_scheduler": "redbeat",
        "result_backend": "none",
        "time_zone": "Europe/Berlin",
    },
    {
        "broker_url": "amqp://rabbitmq:5672//",
        "beat_scheduler": "file",
        "monitoring": ["flower", "opentelemetry", "prometheus", "sentry"],
        "kubernetes": True,
        "ci": "gitlab",
    },
]
"""Answers whose test suites run: each scheduler, and results in Redis, in a database and off."""


QUEUES = {
    "config/settings/project.py": """
from kombu import Queue
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_QUEUES = [Queue("reports")]
CELERY_TASK_ROUTES = {"apps.tasks.tasks.example_task": "reports"}
""",
    "apps/tasks/tasks.py": """
@shared_task(queue="reports")
def write_report() -> None:
    pass
""",
    "apps/tasks/schedules.py": """
SCHEDULES.append(
    Schedule(
        name="Report",
        task="apps.tasks.tasks.write_report",
        when=timedelta(hours=1),
        queue="reports",
    )
)
""",
}
"""Queues of a project's own, as its settings, a task and a schedule name them."""


@pytest.mark.parametrize(
    "answers", SUITES, ids=lambda answers: answers.get("beat_scheduler", "database")
)
def test_the_test_suite_of_the_project_passes(copie: Any, answers: dict[str, object]) -> None:
    result = copie.copy(extra_answers=answers)
    assert result.exception is None
    if answers.get("beat_scheduler") == "file":
        for name, text in QUEUES.items():
            with (result.project_dir / name).open("a") as file:
                file.write(text)
    command = (sys.executable, "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider")
    report = run(result.project_dir, *command, timeout=SUITE_TIMEOUT)
    assert re.search(r"\d+ passed", report)
    assert not re.search(r"failed|error", report.splitlines()[-1])


def test_just_dev_serves_its_page_and_always_stops_all_processes(
    template: Path, tmp_path: Path
) -> None:
    project = render(template, tmp_path / "project")
    module = "apps/pipeline/tests/test_dev.py"
    command = (sys.executable, "-m", "pytest", "-q", "-m", "faults", module)
    report = run(project, *command, timeout=SUITE_TIMEOUT)
    assert re.search(r"^\d+ passed", report.splitlines()[-1]), report


@pytest.mark.parametrize(
    "answers",
    [{}, {"beat_scheduler": "redbeat", "result_backend": "django-db"}],
    ids=["least", "most"],
)
def test_mypy_finds_nothing_in_a_project(
    template: Path, tmp_path: Path, answers: dict[str, str]
) -> None:
    project = render(template, tmp_path / "project", **answers)
    assert "Success" in run(project, "mypy")


def test_just_check_of_a_project_passes(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    report = run(project, "just", "check")
    assert "System check identified no issues" in report


def test_recipes_accept_quoted_arguments(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    words = ("shell", "--verbosity", "0", "--command", "print('six and', 6 * 7)")
    assert run(project, "just", "manage", *words) == "six and 42\n"
    collected = run(project, "just", "test", "--collect-only", "-q", "-k", "inactive or example")
    assert {"TestCleanupInactiveUsersTask", "TestExampleTask"} <= set(collected.split("::"))
