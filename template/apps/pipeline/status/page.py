"""The page: a live picture of the pipeline, a button that sends a task, and switches."""

import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from apps.pipeline.broker.errors import short_reason
from apps.pipeline.status import failed, parts
from apps.pipeline.status.schedules import CHANGE_PERMISSION, in_database, switch
from apps.pipeline.status.snapshot import snapshot
from apps.pipeline.status.trace import Trace, follow

View = Callable[[HttpRequest], HttpResponseBase]

PERMISSION = "pipeline.run_task"

# The page loads its own style and script, and nothing else. It needs no inline code.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def _page(view: View) -> View:
    """Make a view of the page: in English, with a CSRF token, a strict policy and no cache."""

    @wraps(view)
    def with_policy(request: HttpRequest) -> HttpResponseBase:
        with translation.override("en"):  # its own words have no translations
            response = view(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return require_http_methods(["GET", "POST"])(never_cache(csrf_protect(with_policy)))


@_page
def landing(request: HttpRequest) -> HttpResponseBase:
    """The page for everybody. Only local settings have it."""
    return _answer(request, lambda _: True)


@_page
@staff_member_required
def staff(request: HttpRequest) -> HttpResponseBase:
    """The page for staff. The button, the switches and the results of tasks need permissions."""
    return _answer(request, request.user.has_perm)


def _answer(request: HttpRequest, allows: Callable[[str], bool]) -> HttpResponseBase:
    may_run = allows(PERMISSION)
    may_read = may_run or allows("django_celery_results.view_taskresult")
    may_switch = allows(CHANGE_PERMISSION) and in_database()
    may_run_again = allows(failed.PERMISSION) and failed.are_kept()
    may = {"enable": may_switch, "disable": may_switch, "run_again": may_run_again}
    context: dict[str, Any] = {}
    if request.method == "POST":
        action = next((name for name in may if name in request.POST), "")
        if not may.get(action, may_run):
            raise PermissionDenied
        if action:
            context["problem"] = _do(action, request.POST[action], request.user)
            if not context["problem"]:
                place = "tasks" if action == "run_again" else "schedules"
                return HttpResponseRedirect(f"{request.path}#{place}", status=303)
        elif request.POST.get("stream"):
            return StreamingHttpResponse(_stream(), content_type="application/x-ndjson")
        else:
            *_, context["trace"] = _run()
    context |= snapshot(with_results=may_read)
    context |= {"may_run": may_run, "may_run_again": may_run_again, "may_switch": may_switch}
    context |= {"task": settings.LANDING_TASK, "permission": PERMISSION}
    live_only = request.method == "GET" and "live" in request.GET
    return render(request, f"pipeline/{'live' if live_only else 'page'}.html", context)


def _do(action: str, key: str, user: Any) -> str:
    """Switch a schedule, or run a failed task again. Return the problem, if there is one."""
    if action == "run_again":
        return failed.run_again(key, user)
    switch(key, enable=action == "enable", user_id=user.pk)
    return ""


def _run() -> Iterator[Trace]:
    """Send the task of the button, and yield its trace after each event."""
    name = settings.LANDING_TASK
    try:
        task = import_string(name)
        if not (broker := parts.broker()).ok:
            yield Trace(name, ok=False, outcome=f"Not sent, because the broker {broker.words}")
            return
        yield from follow(task, "Hello from the page")
    except ImportError:
        outcome = f"LANDING_TASK is {name}, but this task does not exist."
        yield Trace(name, ok=False, outcome=outcome)
    except Exception as error:  # broker and result backend raise many kinds
        outcome = f"The task could not be followed to its end: {short_reason(error)}"
        yield Trace(name, ok=False, outcome=outcome)


def _stream() -> Iterator[str]:
    """A line of JSON for each event, with HTML that shows the task so far."""
    for seen in _run():
        html = render_to_string("pipeline/trace.html", {"trace": seen})
        yield json.dumps({"html": html, "done": seen.ok is not None}) + "\n"
