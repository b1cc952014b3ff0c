import inspect
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as project
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue
from pytest_django import Settings

from apps.pipeline import django_tasks, schedules
from apps.pipeline.checks import limits, report
from apps.pipeline.schedules import Crontab, Schedule, Solar
from apps.pipeline.tasks import ping

TASK = "apps.pipeline.tasks.ping"
AN_HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Remove the variables that override the settings, and a project's own TASKS and queues.

    Tasks take their limits from the settings when they are imported, so that is done before.
    """
    limits.own_tasks()
    monkeypatch.setattr(schedules, "autodiscover_modules", lambda _: None)
    settings.TASKS, settings.FAILED_TASK_NOTIFY = {}, None
    settings.CELERY_TASK_DEFAULT_QUEUE = "celery"
    settings.CELERY_TASK_QUEUES = settings.CELERY_TASK_ROUTES = None
    for task in current_app.tasks.values():
        monkeypatch.setattr(task, "queue", None, raising=False)
    own = schedules.declared
    monkeypatch.setattr(
        schedules,
        "declared",
        lambda: {name: replace(schedule, queue=None) for name, schedule in own().items()},
    )
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    known()


def messages() -> list[CheckMessage]:
    """The messages of all checks, with deployment checks."""
    return run_checks(tags=["pipeline"], include_deployment_checks=True)


@cache
def known() -> set[str]:
    """The lines of the messages about the project. One test reports those that matter."""
    return {report.as_line(message) for message in messages()}


def found() -> list[str]:
    """The lines of all other messages."""
    return [line for line in map(report.as_line, messages()) if line not in known()]


def only() -> str:
    [line] = found()
    return line


def test_the_project_has_no_messages() -> None:
    assert [report.as_line(one) for one in messages() if not one.is_silenced()] == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CELERY_TASK_SOFT_TIMELIMIT", "Did you mean CELERY_TASK_SOFT_TIME_LIMIT?"),
        ("CELERYD_CONCURRENCY", "Did you mean CELERY_WORKER_CONCURRENCY?"),
        ("CELERY_REDBEAT_LOCK_TIME", "Did you mean CELERY_REDBEAT_LOCK_TIMEOUT?"),
        ("CELERY_COMPRESSION", "Did you mean CELERY_TASK_COMPRESSION?"),
        ("CELERY_ROUTES", "Did you mean CELERY_TASK_ROUTES?"),
    ],
)
def test_e001_a_name_like_that_of_a_setting(settings: Settings, name: str, hint: str) -> None:
    setattr(settings, name, 1)
    assert only() == f"pipeline.E001: {name} is not a Celery setting. {hint}"


@pytest.mark.parametrize(
    "name",
    [
        "CELERY_TASK_MAX_RETRIES",
        "CELERY_BROKER_BACKEND",
        "CELERY_SEND_TASK_ERROR_EMAILS",
        "CELERY_SHOP_OPENING_HOURS",
        "CELERY_EMAIL_BACKEND",  # django-celery-email reads it
        "CELERY_EMAIL_TASK_CONFIG",
    ],
)
def test_w005_a_name_unlike_those_of_all_settings(settings: Settings, name: str) -> None:
    setattr(settings, name, 1)
    hint = "Remove it. If a package reads it, silence pipeline.W005."
    assert only() == f"pipeline.W005: Celery does not read {name}. {hint}"


@pytest.mark.parametrize("name", ["CELERY_RESULT_EXTENDED", "CELERY_REDBEAT_LOCK_TIMEOUT"])
def test_names_that_celery_and_redbeat_know_are_accepted(settings: Settings, name: str) -> None:
    setattr(settings, name, None)
    assert found() == []


@pytest.mark.parametrize("hard", [1500, 1499])
def test_e002_a_soft_limit_that_is_not_under_the_hard_one(settings: Settings, hard: int) -> None:
    settings.CELERY_TASK_SOFT_TIME_LIMIT = 1500
    settings.CELERY_TASK_TIME_LIMIT = hard
    assert only().startswith("pipeline.E002: CELERY_TASK_SOFT_TIME_LIMIT is 1500 s")


def test_e002_of_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app.tasks[TASK], "soft_time_limit", 60 * 60)
    assert only().startswith(f"pipeline.E002: soft_time_limit of {TASK} is 3600 s")


HALF_A_DAY = 12 * 60 * 60


def held_too_long() -> list[str]:
    """The messages of this check only. On SQS other checks report missing packages."""
    return [report.as_line(message) for message in limits.held_messages()]


class TestOnSQS:
    @pytest.fixture(autouse=True)
    def sqs(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "sqs://"

    def test_e003_a_hard_limit_of_half_a_day(self, settings: Settings) -> None:
        settings.CELERY_TASK_TIME_LIMIT = HALF_A_DAY - 1
        assert held_too_long() == []
        settings.CELERY_TASK_TIME_LIMIT = HALF_A_DAY
        [line] = held_too_long()
        assert line.startswith("pipeline.E003: ")
        text = f"is {HALF_A_DAY} s, but SQS delivers a message again after {HALF_A_DAY} s."
        assert text in line

    @pytest.mark.parametrize(
        "attributes",
        [
            {"time_limit": 50000},
            {"default_retry_delay": 50000},
            {"retry_backoff": True, "retry_backoff_max": 50000},
        ],
    )
    def test_e003_the_time_limit_of_one_task(
        self, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, int]
    ) -> None:
        for name, value in attributes.items():
            monkeypatch.setattr(current_app.tasks[TASK], name, value, raising=False)
        [line] = held_too_long()
        assert line.startswith(f"pipeline.E003: {list(attributes)[-1]} of {TASK} is 50000 s")


class TestOnRabbitMQ:
    @pytest.fixture(autouse=True)
    def rabbitmq(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "amqp://localhost//"

    def test_w002_a_hard_limit_beyond_the_consumer_timeout(self, settings: Settings) -> None:
        settings.CELERY_TASK_TIME_LIMIT = 1800
        assert found() == []
        settings.CELERY_TASK_TIME_LIMIT = 1801
        assert only().startswith("pipeline.W002: ")
        assert "is 1801 s, but RabbitMQ delivers a message again after 1800 s." in only()

    def test_w002_the_time_limit_of_one_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(current_app.tasks[TASK], "time_limit", 7200)
        assert only().startswith(f"pipeline.W002: time_limit of {TASK} is 7200 s")

    def test_w002_uses_the_timeout_in_the_settings(self, settings: Settings) -> None:
        settings.CELERY_TASK_TIME_LIMIT = 7200
        settings.RABBITMQ_CONSUMER_TIMEOUT = 7200
        assert found() == []

    def test_rabbitmq_accepts_any_delay_of_a_retry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(current_app.tasks[TASK], "default_retry_delay", 50000)
        assert found() == []


def test_redis_accepts_any_time_limit(settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "redis://localhost/0"
    settings.CELERY_TASK_TIME_LIMIT = 24 * 60 * 60
    assert found() == []


@pytest.mark.parametrize(
    ("polling", "grace", "right"),
    [(0, 25, True), (0, 24, False), (0, 10, False), (3, 28, True), (3, 27, False)],
)
def test_e004_a_soft_shutdown_longer_than_the_stop_grace(
    settings: Settings, polling: int, grace: int, right: bool
) -> None:
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"wait_time_seconds": polling}
    settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
    settings.STOP_GRACE = grace
    if right:
        assert found() == []
    else:
        assert only().startswith("pipeline.E004: CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT is 20 s")


class TestSchedules:
    @pytest.fixture
    def declare(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def declare(when: Any = AN_HOUR, task: str = TASK, args: tuple[object, ...] = ()) -> None:
            restock = Schedule(name="Restock", task=task, when=when, args=args)
            monkeypatch.setattr(schedules, "declared", lambda: {"Restock": restock})

        return declare

    def test_e005_an_unregistered_task(self, declare: Callable[..., None]) -> None:
        declare(task="apps.pipeline.tasks.pong")
        assert only().startswith(
            "pipeline.E005: Schedule 'Restock': "
            "No task is registered as 'apps.pipeline.tasks.pong'. "
            "Did you mean apps.pipeline.tasks.ping"
        )

    def test_e005_a_task_instead_of_its_path(self, declare: Callable[..., None]) -> None:
        declare(task=ping)
        assert only() == (
            "pipeline.E005: Schedule 'Restock': `task` must be the path of a task, "
            "as a string: 'apps.pipeline.tasks.ping', for example."
        )

    def test_e005_no_task_in_the_settings(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULE = {"tick": {"schedule": 1.0}}
        assert only().startswith("pipeline.E005: Schedule 'tick': `task` must be the path of a ")

    def test_e005_an_unregistered_task_in_the_settings(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULE = {"tick": {"task": "nobody.knows", "schedule": 1.0}}
        assert only().startswith("pipeline.E005: Schedule 'tick': No task is registered")

    def test_the_modules_in_celery_imports_register_tasks(
        self,
        settings: Settings,
        declare: Callable[..., None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        source = "from celery import shared_task\n\n\n@shared_task\ndef swept() -> None: ...\n"
        (tmp_path / "jobs_elsewhere.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        settings.CELERY_IMPORTS = ["jobs_elsewhere"]
        monkeypatch.delitem(vars(current_app.loader), "default_modules", raising=False)  # a cache
        declare(task="jobs_elsewhere.swept")
        assert found() == []

    @pytest.mark.parametrize(
        ("when", "message"),
        [
            (Crontab(hour="25"), "25"),
            (Crontab(minute="soon"), "soon"),
            (Crontab(day_of_month="31", month_of_year="4"), "never occurs"),
            (Crontab(time_zone="Europe/Berln"), "Europe/Berln"),
            (timedelta(0), "the interval is not positive"),
            (timedelta(days=1) / 7, "must be a whole number of seconds"),
            ("5 * * * *", "`when` is not a timedelta, Crontab, Solar or datetime"),
            (datetime(2030, 1, 1), "the datetime has no time zone"),
            (Solar(event="sunst", latitude=0, longitude=0), "Did you mean sunset?"),  # type: ignore[arg-type]
        ],
    )
    def test_e006_a_schedule_that_is_not_valid(
        self, declare: Callable[..., None], when: Any, message: str
    ) -> None:
        declare(when)
        assert only().startswith("pipeline.E006: Schedule 'Restock': ")
        assert message in only()

    @pytest.mark.parametrize(
        ("expires", "problem"),
        [(timedelta(0), "positive"), (timedelta(seconds=-1), "positive"), (60, "a timedelta")],
    )
    def test_e006_an_expiry_that_is_not_valid(
        self, expires: Any, problem: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restock = Schedule(name="Restock", task=TASK, when=AN_HOUR, expires=expires)
        monkeypatch.setattr(schedules, "declared", lambda: {"Restock": restock})
        assert only() == f"pipeline.E006: Schedule 'Restock': `expires` is not {problem}."

    def test_e006_a_solar_event_without_the_package_ephem(
        self, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ephem", None)
        declare(Solar(event="sunset", latitude=52.5, longitude=13.4))
        assert "events of the sun need the package ephem: uv add ephem" in only()

    def test_e006_arguments_that_are_not_json(self, declare: Callable[..., None]) -> None:
        declare(args=(datetime(2030, 1, 1),))
        assert "is not JSON serializable" in only()

    def test_e006_two_schedules_with_the_same_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def declared() -> None:
            raise ImproperlyConfigured("Two schedules are named 'Restock'")

        monkeypatch.setattr(schedules, "declared", declared)
        assert only() == "pipeline.E006: Two schedules are named 'Restock'"


def test_e019_times_without_a_time_zone(settings: Settings) -> None:
    settings.USE_TZ = False
    assert only().startswith("pipeline.E019: USE_TZ is False, but Beat and the failed tasks need ")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", None])
def test_one_time_zone_is_accepted(settings: Settings, zone: str | None) -> None:
    settings.TIME_ZONE, settings.CELERY_TIMEZONE = "Asia/Tokyo", zone
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "zone"),
    [
        ({"TIME_ZONE": "Europe/Vienna"}, "Asia/Tokyo"),
        ({"CELERY_TIMEZONE": "Europe/Vienna"}, "Europe/Vienna"),
    ],
)
def test_w004_two_time_zones(settings: Settings, changes: dict[str, Any], zone: str) -> None:
    settings.TIME_ZONE = settings.CELERY_TIMEZONE = "Asia/Tokyo"
    for name, value in changes.items():
        setattr(settings, name, value)
    assert only().startswith(
        f"pipeline.W004: CELERY_TIMEZONE is {zone}, but TIME_ZONE is {settings.TIME_ZONE}. "
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CELERY_BEAT_SCHEDULER": "databse"}, "databse cannot be imported"),
        ({"CELERY_BEAT_SCHEDULER": "celery.beat:Schedular"}, "has no attribute 'Schedular'"),
        (
            {
                "CELERY_BEAT_SCHEDULER": "redbeat.RedBeatScheduler",
                "CELERY_REDBEAT_REDIS_URL": "amqp://localhost//",
            },
            "redbeat.RedBeatScheduler",
        ),
    ],
)
def test_e007_a_scheduler_that_cannot_be_used(
    settings: Settings, changes: dict[str, str], message: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert only().startswith("pipeline.E007: The scheduler ")
    assert message in only()


@pytest.mark.parametrize(
    ("broker", "problem"),
    [
        ("amqp://localhost//", "redbeat needs a Redis broker, but the broker is amqp."),
        (
            "redis://localhost/0",
            "apps.redbeat:Scheduler needs a Redis, "
            "but CELERY_REDBEAT_REDIS_URL has the scheme amqp.",
        ),
    ],
)
def test_e007_redbeat_without_a_redis(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, broker: str, problem: str
) -> None:
    monkeypatch.setattr("apps.pipeline.checks.schedules.symbol_by_name", lambda *_: None)
    settings.CELERY_BROKER_URL = broker
    settings.CELERY_BEAT_SCHEDULER = "apps.redbeat:Scheduler"
    settings.CELERY_REDBEAT_REDIS_URL = "amqp://localhost//"
    hint = "Set CELERY_BEAT_SCHEDULER to database or file."
    assert only() == f"pipeline.E007: The scheduler {problem} {hint}"


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("rpd://", "rpd cannot be imported"),
        ("rpc://", "needs an AMQP broker, but the broker is memory"),
        ("redis", "is not a URL"),
        ("django-db", "needs django-celery-results"),
    ],
)
def test_e008_a_result_backend_that_cannot_be_used(
    settings: Settings, backend: str, message: str
) -> None:
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_celery_results"
    ]
    settings.CELERY_RESULT_BACKEND = backend
    assert only().startswith("pipeline.E008: The result backend ")
    assert message in only()


@pytest.mark.parametrize(
    ("broker", "choices"),
    [
        ("amqp://localhost//", "rpc, django-db, none or the URL of a Redis."),
        ("sqs://", "django-db, none or the URL of a Redis."),
    ],
)
def test_e008_results_in_the_redis_of_another_broker(
    settings: Settings, broker: str, choices: str
) -> None:
    settings.CELERY_BROKER_URL = settings.CELERY_RESULT_BACKEND = broker
    message = next(each for each in found() if each.startswith("pipeline.E008"))
    assert message == (
        "pipeline.E008: CELERY_RESULT_BACKEND is redis, which means the broker's Redis, "
        f"but the broker is {broker.partition(':')[0]}. Set it to {choices}"
    )


@pytest.mark.parametrize("backend", [None, "disabled://"])
def test_no_result_backend_is_accepted(settings: Settings, backend: str | None) -> None:
    settings.CELERY_RESULT_BACKEND = backend
    assert found() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("reddis://localhost/0", "Did you mean redis?"),
        ("localhost/0", "has no scheme"),
        ("redis://", "has no host"),
        ("redis://:6379/0", "has no host"),
        ("redis://localhost:port/0", "has a port that is not a number"),
        ("redis://:pass/word@localhost/0", "has a port that is not a number"),
        ("redis://localhost:/word@localhost/0", "has a / before the @"),
        ("redis://localhost/shop", "ends in 'shop'"),
        ("sentinel://127.0.0.1:1;sentinel://:pass@127.0.0.1:2/shop", "ends in 'shop'"),
        ("sqs://a:pass@;sqs://b:pass@", "is a list"),
    ],
)
def test_e009_a_broker_url_that_cannot_be_used(settings: Settings, url: str, message: str) -> None:
    settings.CELERY_BROKER_URL = url
    assert only().startswith("pipeline.E009: CELERY_BROKER_URL ")
    assert message in only()
    assert "pass" not in only().replace("in a password", "")


@pytest.mark.parametrize(
    "url",
    [
        "redis+socket:///run/redis.sock",
        "sentinel://127.0.0.1:1;sentinel://127.0.0.1:2",
        "amqp://localhost//",
    ],
)
def test_broker_urls_that_can_be_used(settings: Settings, url: str) -> None:
    settings.CELERY_BROKER_URL = url
    assert found() == []


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ({"ENGINE": "django.db.backends.postgresql", "NAME": ""}, "has no database name"),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/db"}, "is a file in /nowhere."),
    ],
)
def test_e010_a_database_that_cannot_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, database: dict[str, str], message: str
) -> None:
    monkeypatch.setitem(settings.DATABASES, "default", database)
    assert only().startswith("pipeline.E010: The database 'default' ")
    assert message in only()


class TestQueues:
    HINT = (
        "Declare it in config/settings/project.py: "
        'from kombu import Queue; CELERY_TASK_QUEUES = [Queue("mial")]'
    )

    @pytest.mark.parametrize(
        "routes",
        [
            {"apps.shop.*": {"queue": "mial"}},
            {"apps.shop.*": "mial"},
            [{"apps.shop.*": {"queue": Queue("mial")}}, lambda *_: None],
            ("apps.shop.*", {"queue": "mial"}),
            [[("apps.shop.*", {"queue": "mial"})]],
            [("apps.shop.*", {"queue": "mial"}), ("apps.other.*", "celery")],
            ((("apps.shop.*", "mial"), ("apps.other.*", "celery")),),
            ["apps.shop.routes.first", {"apps.shop.*": {"queue": "mial"}}],
        ],
    )
    def test_e014_a_route_to_an_undeclared_queue(self, settings: Settings, routes: object) -> None:
        settings.CELERY_TASK_ROUTES = routes
        assert only() == (
            "pipeline.E014: The route of apps.shop.* names the queue 'mial', "
            "which CELERY_TASK_QUEUES does not declare. "
            f"{self.HINT}"
        )

    def test_the_paths_of_two_functions_are_no_route(self, settings: Settings) -> None:
        settings.CELERY_TASK_ROUTES = ["apps.shop.routes.first", "apps.shop.routes.second"]
        assert found() == []
        settings.CELERY_TASK_ROUTES = ["apps.shop.routes.first", lambda *_: None]
        assert found() == []

    def test_e014_a_string_instead_of_a_queue(self, settings: Settings) -> None:
        settings.CELERY_TASK_QUEUES = ["mail"]
        message = "pipeline.E014: CELERY_TASK_QUEUES has the string 'mail' instead of a Queue."
        assert only().startswith(message)

    def test_e014_proposes_a_similar_name(self, settings: Settings) -> None:
        settings.CELERY_TASK_QUEUES = [Queue("mail_out")]
        settings.CELERY_TASK_ROUTES = {"apps.shop.*": {"queue": "mail_outt"}}
        assert "Did you mean mail_out?" in only()
        assert only().endswith('[Queue("mail_out"), Queue("mail_outt")]')

    def test_e014_the_queue_of_a_schedule(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULE = {
            "tick": {
                "task": "apps.pipeline.tasks.ping",
                "schedule": 1.0,
                "options": {"queue": "ticks"},
            }
        }
        assert only().startswith("pipeline.E014: Schedule 'tick' names the queue 'ticks'")

    def test_a_schedule_without_options_is_accepted(self, settings: Settings) -> None:
        entry = {"task": "apps.pipeline.tasks.ping", "schedule": 1.0, "options": None}
        settings.CELERY_BEAT_SCHEDULE = {"tick": entry}
        assert found() == []

    def test_e014_the_queue_of_a_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ping, "queue", "pings", raising=False)
        message = "pipeline.E014: The task apps.pipeline.tasks.ping names the queue 'pings'"
        assert only().startswith(message)

    @pytest.mark.parametrize("queues", [[Queue("mail")], {"mail": {}}])
    def test_declared_queues_are_accepted(self, settings: Settings, queues: object) -> None:
        settings.CELERY_TASK_QUEUES = queues
        settings.CELERY_TASK_ROUTES = {"a.*": {"queue": "mail"}, "b.*": {"queue": "celery"}}
        assert found() == []


class TestDjangoTasks:
    @pytest.fixture(autouse=True)
    def named(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(django_tasks, "is_available", lambda: True)
        settings.TASKS = {"default": {"BACKEND": django_tasks.BACKEND}}
        settings.CELERY_RESULT_BACKEND = "redis://localhost/0"

    def test_e015_the_package_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(django_tasks, "is_available", lambda: False)
        message = "pipeline.E015: TASKS['default'] needs the package django-tasks before Django 6.0"
        assert only().startswith(message)

    def test_e015_a_queue_is_not_declared(self, settings: Settings) -> None:
        settings.CELERY_TASK_QUEUES = [Queue("mail")]
        settings.TASKS["default"]["QUEUES"] = ["default", "mail", "mails"]
        text = "names the queue 'mails', which CELERY_TASK_QUEUES does not declare. "
        assert f"{text}Did you mean mail?" in only()
        assert only().startswith("pipeline.E015: TASKS['default'] ")

    @pytest.mark.parametrize("backend", [None, "disabled://", "cache+memory://"])
    def test_i002_results_cannot_be_read(self, settings: Settings, backend: str | None) -> None:
        settings.CELERY_RESULT_BACKEND = backend
        assert only().startswith("pipeline.I002: TASKS['default']: get_result() needs ")

    def test_another_backend_is_not_checked(self, settings: Settings) -> None:
        settings.TASKS = {"default": {"BACKEND": "shop.Backend", "QUEUES": ["mial"]}}
        settings.CELERY_RESULT_BACKEND = None
        assert found() == []


class TestEncryption:
    @pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
    def test_w001_no_tls_to_another_machine(self, settings: Settings, name: str) -> None:
        setattr(settings, name, "redis://redis.example.com:6379/0")
        assert only().startswith(f"pipeline.W001: {name} connects to redis.example.com without TLS")

    def test_i001_no_tls_to_a_host_without_a_dot(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "redis://redis:6379/0"
        assert only().startswith("pipeline.I001: CELERY_BROKER_URL connects to redis without TLS")

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    def test_no_tls_on_this_machine_is_accepted(self, settings: Settings, host: str) -> None:
        settings.CELERY_BROKER_URL = f"redis://{host}:6379/0"
        assert found() == []

    @pytest.mark.parametrize(
        ("url", "use_ssl", "right"),
        [
            ("rediss://redis.example.com/0", False, False),
            ("rediss://redis.example.com/0", {"ssl_cert_reqs": ssl.CERT_NONE}, False),
            ("rediss://redis.example.com/0?ssl_cert_reqs=none", False, False),
            ("rediss://redis.example.com/0?ssl_cert_reqs=required", False, True),
            ("rediss://redis.example.com/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED}, True),
            (
                "rediss://redis.example.com/0?ssl_cert_reqs=none",
                {"ssl_cert_reqs": ssl.CERT_REQUIRED},
                False,
            ),
            ("amqps://rabbit.example.com//", False, False),
            ("amqps://rabbit.example.com//", {"server_hostname": None}, True),
            (
                "amqps://rabbit.example.com//",
                {"server_hostname": None, "cert_reqs": ssl.CERT_NONE},
                False,
            ),
        ],
    )
    def test_e011_tls_without_verification(
        self, settings: Settings, url: str, use_ssl: Any, right: bool
    ) -> None:
        settings.CELERY_BROKER_URL = url
        settings.CELERY_BROKER_USE_SSL = use_ssl
        if right:
            assert found() == []
        else:
            assert only().startswith("pipeline.E011: CELERY_BROKER_URL uses TLS, but")


def test_e012_pickle(settings: Settings) -> None:
    settings.CELERY_ACCEPT_CONTENT = ["json", "pickle"]
    assert only().startswith("pipeline.E012: Pickle is accepted")


@pytest.mark.usefixtures("no_own_errors")
def test_e013_eager_tasks_in_production(settings: Settings) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert only().startswith("pipeline.E013: CELERY_TASK_ALWAYS_EAGER")
    settings.DEBUG = True
    assert report.messages() == []


def test_a_command_exits_with_a_message_for_a_wrong_url() -> None:
    variables = os.environ | {"CELERY_BROKER_URL": "sentinel://:secret@one:port/0"}
    variables |= {"DJANGO_SETTINGS_MODULE": "config.settings.local"}
    command = [sys.executable, str(project.BASE_DIR / "manage.py"), "check"]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "has a port that is not a number" in ended.stderr
    assert not re.search("Traceback|secret", ended.stderr)


@pytest.mark.usefixtures("no_own_errors")
class TestReport:
    def test_an_error_prints_one_line_and_exits(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_TASK_SOFT_TIMELIMIT = 3
        with pytest.raises(SystemExit) as ended:
            report.report_and_exit()
        assert ended.value.code == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("pipeline.E001: CELERY_TASK_SOFT_TIMELIMIT")

    def test_a_warning_prints_one_line_and_does_not_exit(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_BROKER_URL = "redis://redis.example.com/0"
        report.report_and_exit()
        assert capsys.readouterr().err.startswith("pipeline.W001:")

    def test_silenced_messages_are_not_printed(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_TASK_SOFT_TIMELIMIT = 3
        settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "pipeline.E001"]
        report.report_and_exit()
        assert capsys.readouterr().err == ""


def test_every_id_is_explained() -> None:
    """docs/checks.md has a section with an example for each id."""
    directory = Path(inspect.getfile(report)).parent
    sources = "".join(file.read_text() for file in directory.glob("*.py"))
    known = set(re.findall(r"[EWI]\d{3}", sources))
    explained = (project.BASE_DIR / "docs" / "checks.md").read_text()
    assert known == set(re.findall(r"^## pipeline\.([EWI]\d{3})", explained, re.MULTILINE))


@pytest.mark.faults  # it starts processes
def test_worker_and_beat_exit_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    wrong = {
        "CELERY_BROKER_URL": ("reddis://localhost/0", "Did you mean redis?"),
        "DATABASE_URL": ("postgres://db:5432", "has no database name"),
        "TIME_ZONE": ("Europe/Viena", "is not a time zone. Write Europe/Vienna, for example."),
    }
    started = {
        (role, name): subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "config", role],
            cwd=project.BASE_DIR,
            env=os.environ
            | {"DJANGO_SETTINGS_MODULE": "config.settings.local", "RUNTIME_DIR": str(tmp_path)}
            | {name: wrong[name][0]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for role, name in (
            ("worker", "CELERY_BROKER_URL"),
            ("beat", "CELERY_BROKER_URL"),
            ("beat", "DATABASE_URL"),
            ("worker", "TIME_ZONE"),
        )
    }
    for (role, name), process in started.items():
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1, (role, output)
        assert wrong[name][1] in output
        assert "Traceback" not in output
        assert len(output.splitlines()) <= 3, output


class TestOutbox:
    @pytest.fixture(autouse=True)
    def outbox(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.TASK_OUTBOX = True
        for name in project.DATABASES.keys() - {"default"}:  # W003 is about these
            monkeypatch.delitem(project.DATABASES, name)

    def test_it_is_installed(self) -> None:
        assert found() == []

    def test_e016_it_is_turned_on_in_the_settings(self, settings: Settings) -> None:
        installed = [app for app in settings.INSTALLED_APPS if "outbox" not in app]
        settings.INSTALLED_APPS = installed
        assert only().startswith(
            "pipeline.E016: TASK_OUTBOX is on, but the outbox is not installed."
        )

    def test_e017_a_scheduler_that_sends_nothing_of_it(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULER = "celery.beat:PersistentScheduler"
        assert any(line.startswith("pipeline.E017: TASK_OUTBOX is on, but ") for line in found())

    def test_w003_another_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(project.DATABASES, "archive", project.DATABASES["default"])
        assert only().startswith("pipeline.W003: The outbox does not store tasks ")


@pytest.mark.parametrize("path", ["apps.shop.tell", "apps.pipeline.tasks.NOTHING", "tell", print])
def test_the_function_that_is_told_of_failed_tasks_exists(settings: Settings, path: Any) -> None:
    settings.FAILED_TASK_NOTIFY = path
    assert only().startswith(f"pipeline.E018: FAILED_TASK_NOTIFY is {path!r}, which is not a ")
    settings.FAILED_TASK_NOTIFY = "apps.pipeline.tasks.ping"
    assert found() == []
