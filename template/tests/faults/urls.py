"""The health checks, three URLs for the tests (send tasks, run a transaction, and read a result),
and the URLs of the project."""

import os
import signal
import time
from typing import Any

from celery.result import AsyncResult
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

from config.urls import urlpatterns as project


@login_not_required
def send(request: HttpRequest, name: str, first: int, count: int) -> JsonResponse:
    """Send tasks with numbers from `first` on. Return the accepted tasks and the error."""
    task = import_string(f"tests.faults.tasks.{name}")
    seconds = [float(request.GET["seconds"])] if "seconds" in request.GET else []
    countdown = int(request.GET.get("countdown", 0)) or None
    accepted: dict[int, str] = {}
    began = time.monotonic()
    error = ""
    try:
        for number in range(first, first + count):
            sent = task.apply_async(args=[number, *seconds], countdown=countdown)
            accepted[number] = sent.id
    except OperationalError as problem:
        error = str(problem)
    answer = {"accepted": accepted, "error": error, "seconds": time.monotonic() - began}
    return JsonResponse(answer, status=503 if error else 200)


@login_not_required
def order(request: HttpRequest, number: int) -> JsonResponse:
    """Save a row and send a task about it. `roll_back` and `die` say how the transaction ends."""
    countdown = int(request.GET.get("countdown", 0)) or None
    with transaction.atomic():
        _, created = Group.objects.get_or_create(name=f"order {number}")
        if "die" in request.GET:  # before anything is published
            transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        if created:
            import_string("tests.faults.tasks.no_op").apply_async([number], countdown=countdown)
        transaction.set_rollback("roll_back" in request.GET)
    return JsonResponse({"saved": number})


@login_not_required
def result(request: HttpRequest, task_id: str) -> JsonResponse:
    """The state of a task."""
    of: AsyncResult[Any] = AsyncResult(task_id)
    return JsonResponse({"state": of.state, "result": str(of.result)})


urlpatterns = [
    path("", include("apps.pipeline.urls")),
    path("send/<name>/<int:first>/<int:count>", send),
    path("order/<int:number>", order),
    path("result/<task_id>", result),
    *project,
]
