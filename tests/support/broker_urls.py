"""Lists of broker URLs, and functions that use a URL as Celery and kombu do, without a network."""

from typing import Any

import yaml
from celery import Celery
from kombu import Connection

from support.rendering import ROOT

_LISTED = yaml.safe_load(
    (ROOT / "tests" / "questions" / "broker_urls.yaml").read_text(encoding="utf-8")
)
ACCEPTED: list[str] = _LISTED["accepted"]
WITH_A_PASSWORD: list[str] = _LISTED["with_a_password"]
REFUSED: list[tuple[str, str]] = [
    *((url, about) for about, urls in _LISTED["refused"].items() for url in urls),
    ("redis://" + "h" * 64, "The host is a name"),
    ("redis://" + "h." * 250, "the limit is 500"),
]
"""URLs, each with a part of its refusal."""


def prepare_connection(url: str) -> None:
    """Prepare kombu's connection to each server of `url`, and do not open it.

    Raises the errors of kombu, redis-py and py-amqp for a URL that they cannot use.
    """
    connection = Connection(url, transport_options={"master_name": "mymaster"})
    for address in url.split(";"):
        if ";" in url:
            connection.switch(address)
        connection.info()
        connection.as_uri()
        transport: Any = connection.transport
        if transport.driver_type == "redis":
            channel: Any = object.__new__(transport.Channel)  # its __init__ pings the server
            channel.connection, channel.master_name = transport, "mymaster"
            pool = channel._get_pool()
            if not url.startswith("sentinel"):
                pool.make_connection()
        elif transport.driver_type == "amqp":
            transport.establish_connection()
        else:
            channel = object.__new__(transport.Channel)
            channel.connection = transport
            _ = channel.endpoint_url


def create_result_backend(url: str) -> None:
    """Create the result backend of `url`. Celery parses the URL at once."""
    app = Celery("nowhere", broker="memory://", backend=url, set_as_current=False)
    app.conf.redis_backend_use_ssl = {"ssl_cert_reqs": "required"} if "rediss" in url else None
    app.conf.result_backend_transport_options = {"master_name": "mymaster"}
    _ = app.backend
