"""Queues and routes in environment variables, with each kind of broker."""

from pathlib import Path
from typing import Any

import pytest

from support.projects import run
from support.rendering import render

SHOW = (
    "from celery import current_app as app; from apps.pipeline.broker.queues import declared; "
    "print(*declared(app.conf), *app.amqp.queues.consume_from, "
    "app.amqp.router.route({}, 'apps.shop.tasks.send')['queue'].name)"
)


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(template, tmp_path_factory.mktemp("queues") / "project")


def show(project: Path, **variables: Any) -> list[str]:
    shell = ("manage.py", "shell", "--verbosity", "0", "--command", SHOW)
    return run(project, "python", *shell, **variables).split()


@pytest.mark.parametrize("broker", ["redis://redis:6379/0", "amqp://rabbitmq//", "sqs://"])
def test_workers_take_from_them_and_tasks_wait_in_them(project: Path, broker: str) -> None:
    variables: dict[str, Any] = {
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": "none",
        "CELERY_TASK_QUEUES": "mail, reports",
        "CELERY_TASK_ROUTES": "apps.shop.tasks.*=mail, apps.reports.tasks.*=reports",
    }
    run(project, "python", "manage.py", "check", **variables)
    queues = ["celery", "mail", "reports"]
    assert show(project, **variables) == [*queues, *queues, "mail"]


def test_without_them_there_is_one_queue(project: Path) -> None:
    empties: list[dict[str, Any]] = [{}, {"CELERY_TASK_QUEUES": "", "CELERY_TASK_ROUTES": ""}]
    for empty in empties:
        assert show(project, **empty) == ["celery"] * 3


def test_a_route_to_a_queue_that_is_not_named_is_an_error(project: Path) -> None:
    routes: dict[str, Any] = {
        "CELERY_TASK_ROUTES": "apps.shop.tasks.*=mail",
        "CELERY_TASK_QUEUES": "mails",
    }
    told = run(project, "python", "manage.py", "check", codes=(1,), **routes)
    assert "names the queue 'mail', which CELERY_TASK_QUEUES does not declare" in told
    assert "Did you mean mails?" in told


def test_a_route_that_is_none_is_told_in_a_sentence(project: Path) -> None:
    told = run(project, "python", "manage.py", "check", codes=(1,), CELERY_TASK_ROUTES="mail")
    assert told.splitlines() == [
        "CELERY_TASK_ROUTES: 'mail' has no '='. Write apps.shop.tasks.*=mail, for example."
    ]


def test_what_the_project_declares_counts_before_it(project: Path) -> None:
    settings = project / "config/settings/project.py"
    before = settings.read_text(encoding="utf-8")
    try:
        settings.write_text(f'{before}\nCELERY_TASK_QUEUES = {{"reports": {{}}}}\n')
        assert show(project, CELERY_TASK_QUEUES="mail")[:2] == ["celery", "reports"]
    finally:
        settings.write_text(before, encoding="utf-8")
