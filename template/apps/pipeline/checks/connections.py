"""Checks of broker, result backend and databases."""

from collections.abc import Iterator
from pathlib import Path

from celery import current_app
from celery.app.backends import by_url
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from kombu import Connection
from kombu.utils.url import url_to_parts

from apps.pipeline.checks.urls import AMQP, REDIS, broker_urls, scheme


def result_backend() -> Iterator[CheckMessage]:
    """Check the result backend."""
    backend = current_app.conf.result_backend or "disabled://"
    kind, broker, problem = scheme(backend), scheme(broker_urls()[0]), None
    # These settings turn `redis` into the URL of the broker.
    if backend == current_app.conf.broker_url and broker not in (*REDIS, "memory"):
        message = "CELERY_RESULT_BACKEND is redis, which means the broker's Redis, "
        message += f"but the broker is {broker}."
        yield Error(message, f"Set it to {_usable(kind, broker)}.", id="pipeline.E008")
        return
    try:
        by_url(backend, current_app.loader)
    except Exception as error:  # an import can raise anything
        problem = f"cannot be imported ({error})."
    if kind == "rpc" and broker not in AMQP:
        problem = f"needs an AMQP broker, but the broker is {broker}."
    elif kind in REDIS and "://" not in backend:
        problem = "is not a URL: Celery would use the Redis of this machine."
    elif kind.startswith("django-") and not apps.is_installed("django_celery_results"):
        problem = "needs django-celery-results. The answer django-db to result_backend adds it."
    if problem:
        hint = f"Set CELERY_RESULT_BACKEND to {_usable(kind, broker)}."
        yield Error(f"The result backend {kind} {problem}", hint, id="pipeline.E008")


def _usable(refused: str, broker: str) -> str:
    """The result backends that work with the broker, except the one that was refused."""
    names = ["redis"] if broker in REDIS else ["rpc"] if broker in AMQP else []
    names = [name for name in [*names, "django-db", "none"] if name != refused]
    return f"{', '.join(names)} or the URL of a Redis"


def broker() -> Iterator[CheckMessage]:
    """Check that kombu can read the broker URL. Messages do not show the URL and its password."""
    for problem in filter(None, dict.fromkeys(map(url_problem, broker_urls()))):
        yield Error(f"CELERY_BROKER_URL {problem}", id="pipeline.E009")


def url_problem(url: str) -> str | None:
    try:
        hostname, path = url_to_parts(url).hostname, url_to_parts(url).path
    except ValueError:
        return "has a port that is not a number: write / : @ in a password as %2F %3A %40."
    kind = scheme(url)
    if "@" in (path or "") and kind != "redis+socket":
        return "has a / before the @: write / : @ in a password as %2F %3A %40."
    if "://" not in url:
        return "has no scheme: write redis://host:6379/0, for example."
    if kind == "sqs" and len(broker_urls()) > 1:
        return "is a list, but SQS is one service: write one URL."
    try:
        Connection(url, ssl=current_app.conf.broker_use_ssl).transport  # noqa: B018 - imports the transport
    except Exception as error:  # an import can raise anything
        return f"cannot be used: {error.args[0] if error.args else error}."
    if not hostname and kind not in ("filesystem", "memory", "redis+socket", "sqs"):
        return f"has no host: write {kind}://host/…"
    if kind in ("redis", "rediss", "sentinel") and path and not path.isdigit():
        return f"ends in {path!r}: write the number of a Redis database there."
    return None


def databases() -> Iterator[CheckMessage]:
    """Find mistakes in DATABASE_URL that Django reports only when it connects."""
    for alias, database in settings.DATABASES.items():
        name, problem = str(database.get("NAME") or ""), None
        if not name and "service" not in database.get("OPTIONS", {}):
            problem = "has no database name: write postgres://name:password@host:5432/name."
        elif database["ENGINE"].endswith("sqlite3") and not Path(name).parent.is_dir():
            problem = f"is a file in {Path(name).parent}. This directory does not exist: create it."
        if problem:
            yield Error(f"The database {alias!r} {problem}", id="pipeline.E010")
