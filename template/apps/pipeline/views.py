"""Health for probes, and the page that shows a newcomer the pipeline at work."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.module_loading import import_string
from django.views.decorators.http import require_http_methods, require_safe

from apps.pipeline import status
from apps.pipeline.trace import Trace, trace


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers: nothing else is asked, so that no outage elsewhere restarts it."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """This process has what it needs to serve; 503 and the part that is down where it has not."""
    parts = [status.database(), status.broker()]
    ready = all(part.ok for part in parts)
    if parts[1].ok:
        parts.append(status.queues())  # no reason to take this process out of service
    return JsonResponse({part.name: part.words for part in parts}, status=200 if ready else 503)


@require_http_methods(["GET", "POST"])
def landing(request: HttpRequest) -> HttpResponse:
    """What runs, and on request one task sent through it. Local settings only."""
    parts = [status.database(), status.broker(), status.worker(), status.beat()]
    if parts[1].ok:
        parts.append(status.queues())
    context: dict[str, object] = {"parts": parts, "task": settings.LANDING_TASK}
    if request.method == "POST" and status.broker().ok:
        try:
            task = import_string(settings.LANDING_TASK)
        except ImportError:
            words = f"LANDING_TASK is {settings.LANDING_TASK}, and there is no such task."
            context["trace"] = Trace(False, words, [])
        else:
            context["trace"] = trace(task, "Hello from the landing page")
    return render(request, "pipeline/landing.html", context)
