"""Functions that return the parts of broker URLs."""

from celery import current_app
from kombu.utils.url import url_to_parts

from apps.pipeline.broker.errors import listed

AMQP = ("amqp", "amqps", "pyamqp")
REDIS = ("redis", "rediss", "redis+socket", "sentinel")


def broker_urls() -> list[str]:
    return listed(current_app.conf.broker_url or "")


def scheme(url: str) -> str:
    return url.partition("://")[0]


def host(url: str) -> str | None:
    try:
        return url_to_parts(url).hostname if "://" in url else None
    except ValueError:  # E009 reports it
        return None
