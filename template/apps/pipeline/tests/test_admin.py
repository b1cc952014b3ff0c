"""A failed task is run again from the admin."""

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

PAGE = "/admin/django_celery_results/taskresult/"


@shared_task(name="bakery.halve")
def halve(number: int, *, times: int = 1) -> float:
    if number < 0:
        raise ValueError("no half of that")
    return number / (2 * times)


def failed(*args: object, name: str = halve.name, **kwargs: object) -> TaskResult:
    """The row of a task that failed, as the result backend writes it."""
    return TaskResult.objects.create(
        task_id=f"failed-{TaskResult.objects.count()}",
        task_name=name,
        task_args=json.dumps(saferepr(args, 1024)),
        task_kwargs=json.dumps(saferepr(kwargs, 1024)),
        status="FAILURE",
    )


def run_again(client: Client, *rows: TaskResult) -> str:
    """Choose the action in the admin's list, and give the page that answers."""
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
def test_a_task_whose_arguments_were_not_kept_whole_is_not_sent(
    admin_client: Client, celery_app: Celery, argument: object
) -> None:
    assert "were not kept whole" in run_again(admin_client, failed(argument))


def test_a_task_that_is_gone_is_not_sent(admin_client: Client, celery_app: Celery) -> None:
    assert "No task is registered as" in run_again(admin_client, failed(name="gone"))
