"""Answers health checks before the middleware that redirects or refuses a request."""

from collections.abc import Callable
from contextlib import suppress

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

HEALTH_CHECKS = ("healthz", "readyz")


class HealthCheckMiddleware:
    """Answer /healthz and /readyz for any Host header and without TLS.

    A load balancer sends an IP address as the host, which is not in ALLOWED_HOSTS.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.endswith(HEALTH_CHECKS):
            with suppress(Resolver404):
                match = resolve(request.path_info)
                if match.view_name in HEALTH_CHECKS:
                    response: HttpResponse = match.func(request)
                    return response
        return self.get_response(request)
