"""What is wrong with the configuration, in words.

`manage.py check` and `manage.py doctor` ask, and worker and Beat before they start. Nothing here
needs the database or the network. docs/checks.md has an example of each.
"""

import json
import re
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

from celery import current_app
from celery.app.backends import by_url
from celery.app.defaults import SETTING_KEYS
from celery.utils.imports import load_extension_class_names, symbol_by_name
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from kombu.utils.url import url_to_parts

from apps.pipeline import queues, schedules

AMQP = ("amqp", "amqps", "pyamqp")
REDIS = ("redis", "rediss", "redis+socket", "sentinel")
# After so many seconds these brokers give a message to another worker, unless told otherwise.
VISIBILITY_TIMEOUT = {**dict.fromkeys(REDIS, 3600), "sqs": 1800}
SECOND, HALF_AN_HOUR = timedelta(seconds=1), timedelta(minutes=30)
LEAVING = 5  # seconds a worker needs to leave after its soft shutdown: 3 were measured

REDBEAT = ("key_prefix", "lock_key", "lock_timeout", "redis_options", "redis_url", "redis_use_ssl")
NAMES = {f"CELERY_{key.upper()}" for key in [*SETTING_KEYS, *(f"redbeat_{key}" for key in REDBEAT)]}


def names() -> Iterator[CheckMessage]:
    """Settings that Celery would ignore without a word."""
    for name in dir(settings):
        if name.startswith("CELERY") and name not in NAMES:
            hint = _near(name, NAMES) or "Nothing reads it: remove it."
            yield Error(f"{name} is no setting of Celery.", hint, id="pipeline.E001")


def limits() -> Iterator[CheckMessage]:
    """How long a task may run, and how long it may wait for a retry.

    A retry is what waits in a worker with an ETA: Beat sends a schedule's task when it is due, and
    a countdown stands in the code that sends, where nobody can see it.
    """
    schedules.import_tasks()
    tasks = [task for name, task in current_app.tasks.items() if not name.startswith("celery.")]
    conf = current_app.conf
    hard = conf.task_time_limit or 0
    pairs = [("CELERY_TASK_SOFT_TIME_LIMIT", conf.task_soft_time_limit, hard)]
    spans = [(hard, "CELERY_TASK_TIME_LIMIT")]
    for task in tasks:
        own = task.time_limit or hard
        pairs.append((f"soft_time_limit of {task.name}", task.soft_time_limit, own))
        spans.append((own, f"time_limit of {task.name}"))
        spans.append((task.default_retry_delay or 0, f"default_retry_delay of {task.name}"))
        if getattr(task, "retry_backoff", False):
            longest = getattr(task, "retry_backoff_max", 600)
            spans.append((longest, f"retry_backoff_max of {task.name}"))
    for name, soft, limit in pairs:
        if soft and limit and soft >= limit:
            words = f"{name} is {soft} s, but the hard limit kills the task at {limit} s."
            yield Error(words, "Put the soft limit under the hard one.", id="pipeline.E002")
    default = VISIBILITY_TIMEOUT.get(_scheme(_urls()[0]))
    visible = conf.broker_transport_options.get("visibility_timeout", default)
    longest, name = max(spans)
    if default and longest >= visible:
        words = f"{name} is {longest} s, but after {visible} s the broker has the task run again."
        yield Error(words, "Lower it, or raise VISIBILITY_TIMEOUT above it.", id="pipeline.E003")


def soft_shutdown() -> Iterator[CheckMessage]:
    """Time to return tasks to the queue before the worker is killed."""
    soft = current_app.conf.worker_soft_shutdown_timeout
    grace = getattr(settings, "STOP_GRACE", None)  # None: nobody said
    leaving = LEAVING + current_app.conf.broker_transport_options.get("wait_time_seconds", 0)
    if soft and grace is not None and soft + leaving > grace:
        words = f"CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT is {soft:g} s, STOP_GRACE {grace} s: "
        words += "a worker told to stop is killed before its tasks are back in the queue."
        hint = f"The grace, which the worker's supervisor gives it, has to be {leaving} s longer."
        yield Error(words, hint, id="pipeline.E004")


def declarations() -> Iterator[CheckMessage]:
    """The schedules of every app's `schedules.py`, and those of CELERY_BEAT_SCHEDULE."""
    try:
        declared = schedules.declared()
    except ImproperlyConfigured as error:
        yield Error(str(error), id="pipeline.E006")
        return
    tasks = {name: schedule.task for name, schedule in declared.items()}
    tasks |= {name: entry["task"] for name, entry in current_app.conf.beat_schedule.items()}
    for name, task in tasks.items():
        if problem := schedules.unknown_task(task):
            yield Error(f"Schedule {name!r}: {problem}", id="pipeline.E005")
    for name, schedule in declared.items():
        if problem := _unusable(schedule):
            yield Error(f"Schedule {name!r}: {problem}", id="pipeline.E006")


def _unusable(schedule: schedules.Schedule) -> str | None:
    match schedule.when:
        case timedelta() as interval if interval <= timedelta(0):
            return "its interval is not above zero."
        case timedelta() as interval if interval > HALF_AN_HOUR and interval % SECOND:
            return "its interval is above half an hour: round it to whole seconds."
        case datetime(tzinfo=None):
            return "its moment has no time zone: give it tzinfo=UTC, for example."
        case schedules.Solar(event=event) if event not in get_args(schedules.SolarEvent):
            return f"{event!r} is no event. {_near(event, get_args(schedules.SolarEvent))}"
        case schedules.Solar() if find_spec("ephem") is None:
            return "the sun's events need the package ephem: uv add ephem"
    if schedule.expires is not None and schedule.expires <= timedelta(0):
        return "its expiry is not above zero."
    try:
        schedules.celery_schedule(schedule.when)
        json.dumps([list(schedule.args), dict(schedule.kwargs)])
    except Exception as error:  # each kind of schedule raises its own
        return str(error.args[0] if error.args else error)
    return None


def undeclared_queues() -> Iterator[CheckMessage]:
    """Queues that something is sent to and no worker takes from."""
    schedules.import_tasks()
    conf, known = current_app.conf, queues.declared(current_app.conf)
    named = list(_routed(conf.task_routes))
    named += [
        (f"The task {name}", getattr(task, "queue", None))
        for name, task in current_app.tasks.items()
    ]
    for name, entry in conf.beat_schedule.items():
        named.append((f"Schedule {name!r}", entry.get("options", {}).get("queue")))
    with suppress(ImproperlyConfigured):  # E006 says so
        named += [(f"Schedule {name!r}", it.queue) for name, it in schedules.declared().items()]
    for place, queue in named:
        name = getattr(queue, "name", queue)
        if name and name not in known:
            every = ", ".join(f'Queue("{each}")' for each in [*known, name])
            hint = f"Declare it in config/settings/project.py: CELERY_TASK_QUEUES = [{every}]"
            words = f"{place} names the queue {name!r}, which no worker takes from."
            yield Error(
                words, " ".join(filter(None, [_near(name, known), hint])), id="pipeline.E014"
            )


def _routed(routes: Any) -> Iterator[tuple[str, Any]]:
    """The queue of each route that can be read: those of functions cannot."""
    if isinstance(routes, Mapping):
        for pattern, route in routes.items():
            to = route.get("queue") if isinstance(route, Mapping) else route
            yield f"The route of {getattr(pattern, 'pattern', pattern)}", to
    elif isinstance(routes, list | tuple):
        if len(routes) == 2 and isinstance(routes[0], str | re.Pattern):
            routes = [{routes[0]: routes[1]}]
        for route in routes:
            yield from _routed(route)


def scheduler() -> Iterator[CheckMessage]:
    """What Beat runs."""
    conf = current_app.conf
    path, problem = conf.beat_scheduler, None
    known: Any = load_extension_class_names("celery.beat_schedulers")
    try:
        symbol_by_name(path, dict(known))
    except Exception as error:  # whatever its import raises
        problem = f"cannot be imported ({error})."
    else:
        kind = _scheme(conf.get("redbeat_redis_url") or _urls()[0])
        if "redbeat" in path.lower() and kind not in (*REDIS, "redis-sentinel", "unix"):
            problem = f"needs a Redis, but CELERY_REDBEAT_REDIS_URL is of the scheme {kind}."
    if problem:
        hint = "Set CELERY_BEAT_SCHEDULER to database, redbeat or file."
        if "redbeat" in path and "No module" in problem:
            answer = "uvx copier update -r :current: --defaults -d beat_scheduler=redbeat"
            hint = f"RedBeat's code comes with its answer: {answer}"
        yield Error(f"The scheduler {path} {problem}", hint, id="pipeline.E007")


def result_backend() -> Iterator[CheckMessage]:
    """Where results go."""
    backend = current_app.conf.result_backend or "disabled://"
    kind, problem = _scheme(backend), None
    try:
        by_url(backend, current_app.loader)
    except Exception as error:  # whatever its import raises
        problem = f"cannot be imported ({error})."
    if kind == "rpc" and _scheme(_urls()[0]) not in AMQP:
        problem = f"needs an AMQP broker, and this one is {_scheme(_urls()[0])}."
    elif kind in REDIS and "://" not in backend:
        problem = "is a word where Celery needs the URL: it would ask the Redis of this machine."
    elif kind.startswith("django-") and not apps.is_installed("django_celery_results"):
        problem = "needs django_celery_results, in the project's packages and in INSTALLED_APPS."
    if problem:
        hint = "Set CELERY_RESULT_BACKEND to redis, rpc, django-db, none or a URL."
        yield Error(f"The result backend {kind} {problem}", hint, id="pipeline.E008")


def broker() -> Iterator[CheckMessage]:
    """The broker's URL, read as kombu will read it. The URL itself, with a password, stays out."""
    for url in _urls():
        if problem := _unreadable(url):
            yield Error(f"CELERY_BROKER_URL {problem}", id="pipeline.E009")


def _unreadable(url: str) -> str | None:
    try:
        host, path = url_to_parts(url).hostname, url_to_parts(url).path
    except ValueError:
        return "has a port that is no number: write / : @ in a password as %2F %3A %40."
    kind = _scheme(url)
    if "://" not in url:
        return "has no scheme: write redis://host:6379/0, for example."
    try:
        Connection(url, ssl=current_app.conf.broker_use_ssl).transport  # noqa: B018 - finds and imports what speaks to such a broker
    except Exception as error:  # whatever its import raises
        return f"cannot be used: {error.args[0] if error.args else error}."
    if not host and kind not in ("filesystem", "memory", "redis+socket", "sqs"):
        return f"names no host: write {kind}://host/…"
    if kind in ("redis", "rediss", "sentinel") and path and not path.isdigit():
        return f"ends in {path!r}, where Redis has the number of a database."
    return None


def databases() -> Iterator[CheckMessage]:
    """What a URL can get wrong and Django finds only when it connects."""
    for alias, database in settings.DATABASES.items():
        name, problem = str(database.get("NAME") or ""), None
        if not name and "service" not in database.get("OPTIONS", {}):
            problem = "names no database: write postgres://name:password@host:5432/name."
        elif database["ENGINE"].endswith("sqlite3") and not Path(name).parent.is_dir():
            problem = f"is a file in {Path(name).parent}, which does not exist: make it."
        if problem:
            yield Error(f"The database {alias!r} {problem}", id="pipeline.E010")


def content() -> Iterator[CheckMessage]:
    """What messages may be."""
    accepted = {*current_app.conf.accept_content, *(current_app.conf.result_accept_content or ())}
    if accepted & {"pickle", "application/x-python-serialize"}:
        words = "Pickle is accepted: whoever reaches the broker runs code in the worker."
        hint = 'Set CELERY_ACCEPT_CONTENT and CELERY_RESULT_ACCEPT_CONTENT to ["json"].'
        yield Error(words, hint, id="pipeline.E012")


def encryption() -> Iterator[CheckMessage]:
    """What others on the network could read, or pretend to be.

    A host without a dot is a neighbour in compose, on a network inside the machine: information
    and no warning, as between machines the same name is read on the way.
    """
    conf = current_app.conf
    urls = [("CELERY_BROKER_URL", url, conf.broker_use_ssl) for url in _urls()]
    urls.append(("CELERY_RESULT_BACKEND", conf.result_backend or "", conf.redis_backend_use_ssl))
    for name, url, use_ssl in urls:
        kind, host = _scheme(url), _host(url)
        if kind not in (*AMQP, *REDIS) or not host or _is_this_machine(host):
            continue
        if kind not in ("amqps", "rediss") and not use_ssl:
            words = f"{name} travels to {host} in plain text, with its password and every task."
            hint = "Use amqps:// or rediss://, unless nobody else is on that network."
            if "." in host or ":" in host:
                yield checks.Warning(words, hint, id="pipeline.W001")
            else:
                yield Info(words, hint, id="pipeline.I001")
            continue
        options: dict[str, object] = dict(parse_qsl(urlsplit(url).query))
        options |= use_ssl if isinstance(use_ssl, dict) else {}
        asked = options.get("ssl_cert_reqs", options.get("cert_reqs"))
        if kind in AMQP:  # which asks for a certificate by itself, but compares no name
            verified = "server_hostname" in options and asked != ssl.CERT_NONE
        else:
            verified = asked not in (None, "none", "CERT_NONE", ssl.CERT_NONE)
        if not verified:
            hint = "Ask for ssl_cert_reqs=CERT_REQUIRED; for amqps:// set server_hostname to None."
            words = f"{name} is encrypted to whoever answers as {host}."
            yield Error(words, hint, id="pipeline.E011")


def eager() -> Iterator[CheckMessage]:
    """Whether tasks reach a worker at all."""
    if current_app.conf.task_always_eager:
        words = "CELERY_TASK_ALWAYS_EAGER runs every task in the web process, while its user waits."
        yield Error(words, "Set it in the settings of tests alone.", id="pipeline.E013")


@checks.register("pipeline")
def everywhere(**kwargs: Any) -> list[CheckMessage]:
    asked = (names, limits, soft_shutdown, declarations, undeclared_queues, scheduler)
    also = (result_backend, broker, databases, content)
    return [message for ask in (*asked, *also) for message in ask()]


@checks.register("pipeline", deploy=True)
def in_production(**kwargs: Any) -> list[CheckMessage]:
    return [message for ask in (encryption, eager) for message in ask()]


def messages() -> list[CheckMessage]:
    """What is wrong here and was not silenced; in production with what matters only there."""
    found = checks.run_checks(tags=["pipeline"], include_deployment_checks=not settings.DEBUG)
    return [it for it in found if it.level >= checks.WARNING and not it.is_silenced()]


def line(message: CheckMessage) -> str:
    return " ".join(filter(None, [f"{message.id}:", message.msg, message.hint]))


def report_and_exit() -> None:
    """Say what is wrong, a line each, and end this process where that is an error."""
    found = messages()
    for message in found:
        print(line(message), file=sys.stderr)  # noqa: T201 - logging is not set up yet
    if any(message.is_serious() for message in found):
        sys.exit(1)


def _urls() -> list[str]:
    urls = current_app.conf.broker_url or ""
    return urls.split(";") if isinstance(urls, str) else list(urls)


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _host(url: str) -> str | None:
    try:
        return url_to_parts(url).hostname if "://" in url else None
    except ValueError:  # E009 says so
        return None


def _is_this_machine(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.8)
    return f"Did you mean {near[0]}?" if near else ""
