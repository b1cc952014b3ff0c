"""The action of the admin that runs failed tasks again."""

import json

import pytest
from celery import Celery, shared_task
from celery.result import AsyncResult
from celery.utils.saferepr import saferepr
from django.conf import settings
from django.test import Client

if "django_celery_results" not in settings.INSTALLED_APPS:
    pytest.skip("results are not kept in the database", allow_module_level=True)

from django_celery_results.models import TaskResult

pytestmark = pytest.mark.usefixtures("site")

PAGE = "/admin/django_celery_results/taskresult/"


@shared_task(name="bakery.halve")
def halve(number: int, *, times: int = 1) -> float:
    if number < 0:
        raise ValueError("no half of that")
    return number / (2 * times)


def failed(*args: object, name: str = halve.name, **kwargs: object) -> TaskResult:
    """The row that the result backend writes for a failed task."""
    return TaskResult.objects.create(
        task_id=f"failed-{TaskResult.objects.count()}",
        task_name=name,
        task_args=json.dumps(saferepr(args, 1024)),
        task_kwargs=json.dumps(saferepr(kwargs, 1024)),
        status="FAILURE",
    )


def run_again(client: Client, *rows: TaskResult) -> str:
    """Run the action in the admin, and return the page."""
    form = {"action": "run_again", "_selected_action": [row.pk for row in rows]}
    return client.post(PAGE, form, follow=True).content.decode()


def test_a_failed_task_runs_again_with_its_arguments(
    admin_client: Client, live_worker: Celery
) -> None:
    done = TaskResult.objects.create(task_id="done", task_name=halve.name, status="SUCCESS")
    page = run_again(admin_client, failed(8, times=2), done)
    assert page.count("is sent again, as ") == 1
    sent = page.partition("is sent again, as ")[2].partition(".")[0]
    assert AsyncResult(sent, app=live_worker).get(timeout=60) == 2
    assert TaskResult.objects.get(task_id="failed-1").status == "FAILURE"


@pytest.mark.parametrize("argument", ["a" * 2000, [[[[[1]]]]], object()])
def test_a_task_with_incomplete_arguments_is_not_sent(
    admin_client: Client, celery_app: Celery, argument: object
) -> None:
    assert "does not have the complete arguments" in run_again(admin_client, failed(argument))


def test_an_unregistered_task_is_not_sent(admin_client: Client, celery_app: Celery) -> None:
    assert "No task is registered as" in run_again(admin_client, failed(name="gone"))
