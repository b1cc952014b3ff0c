"""The project's own addresses, and two for the tests: send tasks, and read a result."""

import time
from typing import Any

from celery.result import AsyncResult
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

from config.urls import urlpatterns as project


def send(request: HttpRequest, name: str, first: int, count: int) -> JsonResponse:
    """Send tasks with the numbers from `first` on; say which were accepted, and what went wrong."""
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


def result(request: HttpRequest, task_id: str) -> JsonResponse:
    """What became of a task."""
    of: AsyncResult[Any] = AsyncResult(task_id)
    return JsonResponse({"state": of.state, "result": str(of.result)})


urlpatterns = [
    *project,
    path("send/<name>/<int:first>/<int:count>", send),
    path("result/<task_id>", result),
]
