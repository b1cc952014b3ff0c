"""Checks of serializers, TLS and eager tasks."""

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from celery import current_app
from django.core import checks

from apps.pipeline.checks.urls import AMQP, REDIS, broker_urls, host, scheme


def content() -> Iterator[checks.CheckMessage]:
    """Check the serializers of messages."""
    accepted = {*current_app.conf.accept_content, *(current_app.conf.result_accept_content or ())}
    if accepted & {"pickle", "application/x-python-serialize"}:
        message = "Pickle is accepted: whoever connects to the broker can run code in workers."
        hint = 'Set CELERY_ACCEPT_CONTENT and CELERY_RESULT_ACCEPT_CONTENT to ["json"].'
        yield checks.Error(message, hint, id="pipeline.E012")


def encryption() -> Iterator[checks.CheckMessage]:
    """Check TLS to broker and result backend.

    A host name without a dot is usually a service of the same compose project. The network of the
    project does not leave the machine, so the message is an info and not a warning.
    """
    conf = current_app.conf
    urls = [("CELERY_BROKER_URL", url, conf.broker_use_ssl) for url in broker_urls()]
    urls.append(("CELERY_RESULT_BACKEND", conf.result_backend or "", conf.redis_backend_use_ssl))
    for name, url, use_ssl in urls:
        kind, hostname = scheme(url), host(url) or ""
        is_local = hostname in ("", "localhost", "::1") or hostname.startswith("127.")
        if kind not in (*AMQP, *REDIS) or is_local:
            continue
        if kind not in ("amqps", "rediss") and not use_ssl:
            message = f"{name} connects to {hostname} without TLS: others can read all messages."
            hint = "Use amqps:// or rediss://, unless the network is private."
            if "." in hostname or ":" in hostname:
                yield checks.Warning(message, hint, id="pipeline.W001")
            else:
                yield checks.Info(message, hint, id="pipeline.I001")
            continue
        if not _verifies(kind, url, use_ssl):
            hint = (
                "Remove ssl_cert_reqs from the URL, or set it to CERT_REQUIRED. For amqps://, set "
                'CELERY_BROKER_USE_SSL = {"server_hostname": None}; None means the host of the URL.'
            )
            message = f"{name} uses TLS, but does not verify that the server is {hostname}."
            yield checks.Error(message, hint, id="pipeline.E011")


def _verifies(kind: str, url: str, use_ssl: Any) -> bool:
    """Whether a TLS connection verifies the certificate and its host name."""
    options: dict[str, object] = {**use_ssl} if isinstance(use_ssl, dict) else {}
    options |= parse_qsl(urlsplit(url).query)  # kombu and Celery prefer the URL to the setting
    required = options.get("ssl_cert_reqs", options.get("cert_reqs"))
    # By default kombu does not verify certificates for rediss. Seen in kombu 5.7.0 (not reported
    # yet). Keep this check once fixed, because a URL can turn verification off.
    if kind in AMQP:  # py-amqp verifies the certificate by default, but not the host name
        return "server_hostname" in options and required != ssl.CERT_NONE
    return required not in (None, "none", "CERT_NONE", ssl.CERT_NONE)


def eager() -> Iterator[checks.CheckMessage]:
    """Check that tasks are sent to a worker."""
    if current_app.conf.task_always_eager:
        message = "CELERY_TASK_ALWAYS_EAGER runs tasks in the web process, while the user waits."
        yield checks.Error(message, "Set it only in the settings of tests.", id="pipeline.E013")
