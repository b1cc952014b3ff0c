"""Health checks for probes."""

import logging

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from apps.pipeline.status import outbox, parts
from apps.pipeline.status.queues import queues

logger = logging.getLogger(__name__)


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200, even while other servers do not answer: a restart would not help."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if this process can connect to database and broker, else 503.

    With the outbox, the broker is not needed. Anyone can request it, so the answer says only
    whether each part works. The log has the reason.
    """
    database, broker = found = [parts.database(), parts.broker()]
    ready = database.ok and (broker.ok or settings.TASK_OUTBOX)
    # These are shown, but have no effect on the status code.
    if broker.ok:
        found.append(parts.attempt("queues", queues))
    if settings.TASK_OUTBOX and database.ok:
        found.append(parts.attempt("outbox", outbox.part))
    for part in found:
        if not part.ok:
            state = "Ready, but" if ready else "Not ready"
            logger.warning("%s: %s %s", state, part.name, part.words)
    return JsonResponse({part.name: part.ok for part in found}, status=200 if ready else 503)
