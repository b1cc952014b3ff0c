"""Gives each web request an id."""

import re
import uuid
from collections.abc import Callable
from typing import Any

from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse

from apps.pipeline.logs.ids import request_id

HEADER = "X-Request-ID"
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,100}")


class RequestIdMiddleware:
    """Take the id of a request from the header X-Request-ID, or make one. The response has it too.

    The id is in all lines that the request logs, and in those of the tasks that it sends.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        request_finished.connect(forget)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        value = given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        request_id.set(value)
        response = self.get_response(request)
        response.setdefault(HEADER, value)
        return response


def forget(**kwargs: Any) -> None:
    """Forget the id, after the server has logged the request."""
    request_id.set("")
