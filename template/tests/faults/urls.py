"""The URLs of the project, and three for the tests: send tasks, run a transaction, and read
a result."""

import os
import signal
import time
from typing import Any

from celery.result import AsyncResult
from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

from config.urls import urlpatterns as project


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


def order(request: HttpRequest, number: int) -> JsonResponse:
    """Save a row and send a task about it. `roll_back` and `die` say how the transaction ends."""
    users, countdown = get_user_model().objects, int(request.GET.get("countdown", 0)) or None
    with transaction.atomic():
        _, created = users.get_or_create(username=f"order {number}")
        if "die" in request.GET:  # before anything is published
            transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        if created:
            import_string("tests.faults.tasks.no_op").apply_async([number], countdown=countdown)
        transaction.set_rollback("roll_back" in request.GET)
    return JsonResponse({"saved": number})


def result(request: HttpRequest, task_id: str) -> JsonResponse:
    """The state of a task."""
    of: AsyncResult[Any] = AsyncResult(task_id)
    return JsonResponse({"state": of.state, "result": str(of.result)})


urlpatterns = [
    *project,
    path("send/<name>/<int:first>/<int:count>", send),
    path("order/<int:number>", order),
    path("result/<task_id>", result),
]
