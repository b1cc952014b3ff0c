import inspect
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as project
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue
from pytest_django import Settings

from apps.pipeline import checks, schedules
from apps.pipeline.schedules import Crontab, Schedule, Solar
from apps.pipeline.tasks import ping

TASK = "apps.pipeline.tasks.ping"
AN_HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery prefers these to the settings."""
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)


def found() -> list[str]:
    """What all checks say, deploy checks among them, as lines."""
    return [checks.line(it) for it in run_checks(tags=["pipeline"], include_deployment_checks=True)]


def only() -> str:
    [line] = found()
    return line


def test_the_project_as_it_was_made_is_right() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CELERY_TASK_SOFT_TIMELIMIT", "Did you mean CELERY_TASK_SOFT_TIME_LIMIT?"),
        ("CELERYD_CONCURRENCY", "Did you mean CELERY_WORKER_CONCURRENCY?"),
        ("CELERY_REDBEAT_LOCK_TIME", "Did you mean CELERY_REDBEAT_LOCK_TIMEOUT?"),
        ("CELERY_TASK_MAX_RETRIES", ""),
        ("CELERY_BROKER_BACKEND", ""),
        ("CELERY_WORKER_LOG_LEVEL", ""),
        ("CELERY_SEND_TASK_ERROR_EMAILS", ""),
        ("CELERY_COMPRESSION", ""),
        ("CELERY_SHOP_OPENING_HOURS", "Nothing reads it: remove it."),
    ],
)
def test_e001_a_name_that_celery_does_not_know(settings: Settings, name: str, hint: str) -> None:
    setattr(settings, name, 1)
    assert only().startswith(f"pipeline.E001: {name} is no setting of Celery. ")
    assert only().endswith(hint)


@pytest.mark.parametrize("name", ["CELERY_RESULT_EXTENDED", "CELERY_REDBEAT_LOCK_TIMEOUT"])
def test_names_that_celery_and_redbeat_know_are_right(settings: Settings, name: str) -> None:
    setattr(settings, name, None)
    assert found() == []


class TestLimits:
    @pytest.fixture(autouse=True)
    def on_redis(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "redis://localhost/0"
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}

    @pytest.mark.parametrize("hard", [1500, 1499])
    def test_e002_a_soft_limit_that_is_not_under_the_hard_one(
        self, settings: Settings, hard: int
    ) -> None:
        settings.CELERY_TASK_SOFT_TIME_LIMIT = 1500
        settings.CELERY_TASK_TIME_LIMIT = hard
        assert only().startswith("pipeline.E002: CELERY_TASK_SOFT_TIME_LIMIT is 1500 s")

    def test_e002_of_one_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(current_app.tasks[TASK], "soft_time_limit", 60 * 60)
        assert only().startswith(f"pipeline.E002: soft_time_limit of {TASK} is 3600 s")

    @pytest.mark.parametrize("options", [{"visibility_timeout": 1800}, {"visibility_timeout": 60}])
    def test_e003_a_hard_limit_that_is_not_under_the_visibility_timeout(
        self, settings: Settings, options: dict[str, int]
    ) -> None:
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = options
        assert "E003: time_limit of" in only() or "E003: CELERY_TASK_TIME_LIMIT is 1800" in only()

    def test_e003_counts_with_the_time_that_the_broker_takes_by_itself(
        self, settings: Settings
    ) -> None:
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = {}
        assert found() == []
        settings.CELERY_TASK_TIME_LIMIT = 3600
        assert "but after 3600 s the broker has the task run again" in only()

    @pytest.mark.parametrize(
        "attributes",
        [
            {"time_limit": 7200},
            {"default_retry_delay": 7200},
            {"retry_backoff": True, "retry_backoff_max": 7200},
        ],
    )
    def test_e003_of_one_task(
        self, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, int]
    ) -> None:
        for name, value in attributes.items():
            monkeypatch.setattr(current_app.tasks[TASK], name, value, raising=False)
        name = list(attributes)[-1]
        assert only().startswith(f"pipeline.E003: {name} of {TASK} is 7200 s")

    def test_a_broker_without_visibility_timeout_lets_tasks_take_their_time(
        self, settings: Settings
    ) -> None:
        settings.CELERY_BROKER_URL = "amqp://localhost//"
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

    def test_e005_a_task_that_nobody_registers(self, declare: Callable[..., None]) -> None:
        declare(task="apps.pipeline.tasks.pong")
        assert only().startswith(
            "pipeline.E005: Schedule 'Restock': "
            "No task is registered as 'apps.pipeline.tasks.pong'. "
            "Did you mean apps.pipeline.tasks.ping"
        )

    def test_e005_in_the_settings(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULE = {"tick": {"task": "nobody.knows", "schedule": 1.0}}
        assert only().startswith("pipeline.E005: Schedule 'tick': No task is registered")

    def test_a_module_that_celery_is_told_to_import_registers_tasks(
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
        ("when", "words"),
        [
            (Crontab(hour="25"), "25"),
            (Crontab(minute="soon"), "soon"),
            (Crontab(time_zone="Europe/Berln"), "Europe/Berln"),
            (timedelta(0), "its interval is not above zero"),
            (timedelta(days=1) / 7, "round it to whole seconds"),
            ("5 * * * *", "its time is no timedelta, Crontab, Solar or datetime"),
            (datetime(2030, 1, 1), "its moment has no time zone"),
            (Solar(event="sunst", latitude=0, longitude=0), "Did you mean sunset?"),  # type: ignore[arg-type]
        ],
    )
    def test_e006_a_time_that_cannot_be_read(
        self, declare: Callable[..., None], when: Any, words: str
    ) -> None:
        declare(when)
        assert only().startswith("pipeline.E006: Schedule 'Restock': ")
        assert words in only()

    @pytest.mark.parametrize("expires", [timedelta(0), timedelta(seconds=-1)])
    def test_e006_an_expiry_that_is_over_at_once(
        self, expires: timedelta, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restock = Schedule(name="Restock", task=TASK, when=AN_HOUR, expires=expires)
        monkeypatch.setattr(schedules, "declared", lambda: {"Restock": restock})
        assert only() == "pipeline.E006: Schedule 'Restock': its expiry is not above zero."

    def test_e006_the_sun_without_the_package_that_knows_it(
        self, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ephem", None)
        declare(Solar(event="sunset", latitude=52.5, longitude=13.4))
        assert "the sun's events need the package ephem: uv add ephem" in only()

    def test_e006_arguments_that_are_not_json(self, declare: Callable[..., None]) -> None:
        declare(args=(datetime(2030, 1, 1),))
        assert "is not JSON serializable" in only()

    def test_e006_two_of_one_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def declared() -> None:
            raise ImproperlyConfigured("Two schedules are named 'Restock'")

        monkeypatch.setattr(schedules, "declared", declared)
        assert only() == "pipeline.E006: Two schedules are named 'Restock'"


@pytest.mark.parametrize(
    ("changes", "words"),
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
    settings: Settings, changes: dict[str, str], words: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert only().startswith("pipeline.E007: The scheduler ")
    assert words in only()


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("rpd://", "rpd cannot be imported"),
        ("rpc://", "needs an AMQP broker, and this one is memory"),
        ("redis", "is a word where Celery needs the URL"),
        ("django-db", "needs django_celery_results"),
    ],
)
def test_e008_a_result_backend_that_cannot_be_used(
    settings: Settings, backend: str, words: str
) -> None:
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_celery_results"
    ]
    settings.CELERY_RESULT_BACKEND = backend
    assert only().startswith("pipeline.E008: The result backend ")
    assert words in only()


@pytest.mark.parametrize("backend", [None, "disabled://"])
def test_no_result_backend_is_right(settings: Settings, backend: str | None) -> None:
    settings.CELERY_RESULT_BACKEND = backend
    assert found() == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("reddis://localhost/0", "Did you mean redis?"),
        ("localhost/0", "has no scheme"),
        ("redis://", "names no host"),
        ("redis://:6379/0", "names no host"),
        ("redis://localhost:port/0", "has a port that is no number"),
        ("redis://:pass/word@localhost/0", "has a port that is no number"),
        ("redis://localhost/shop", "ends in 'shop'"),
        ("sentinel://127.0.0.1:1;sentinel://127.0.0.1:2/shop", "ends in 'shop'"),
    ],
)
def test_e009_a_broker_url_that_cannot_be_used(settings: Settings, url: str, words: str) -> None:
    settings.CELERY_BROKER_URL = url
    assert only().startswith("pipeline.E009: CELERY_BROKER_URL ")
    assert words in only()
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
    ("database", "words"),
    [
        ({"ENGINE": "django.db.backends.postgresql", "NAME": ""}, "names no database"),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/db"}, "/nowhere, which does"),
    ],
)
def test_e010_a_database_that_cannot_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, database: dict[str, str], words: str
) -> None:
    monkeypatch.setitem(settings.DATABASES, "default", database)
    assert only().startswith("pipeline.E010: The database 'default' ")
    assert words in only()


class TestQueues:
    @pytest.fixture(autouse=True)
    def none_of_the_projects_own(self, settings: Settings) -> None:
        settings.CELERY_TASK_QUEUES = settings.CELERY_TASK_ROUTES = None

    HINT = 'Declare it in config/settings/project.py: CELERY_TASK_QUEUES = [Queue("celery"), '

    @pytest.mark.parametrize(
        "routes",
        [
            {"apps.shop.*": {"queue": "mial"}},
            {"apps.shop.*": "mial"},
            [{"apps.shop.*": {"queue": Queue("mial")}}, lambda *_: None],
            ("apps.shop.*", {"queue": "mial"}),
            [[("apps.shop.*", {"queue": "mial"})]],
        ],
    )
    def test_e014_a_route_to_a_queue_that_nobody_takes_from(
        self, settings: Settings, routes: object
    ) -> None:
        settings.CELERY_TASK_ROUTES = routes
        assert only() == (
            "pipeline.E014: The route of apps.shop.* names the queue 'mial', which no worker takes "
            f'from. {self.HINT}Queue("mial")]'
        )

    def test_e014_names_the_near_miss(self, settings: Settings) -> None:
        settings.CELERY_TASK_QUEUES = [Queue("mail_out")]
        settings.CELERY_TASK_ROUTES = {"apps.shop.*": {"queue": "mail_outt"}}
        assert "Did you mean mail_out?" in only()

    def test_e014_a_schedule(self, settings: Settings) -> None:
        settings.CELERY_BEAT_SCHEDULE = {
            "tick": {
                "task": "apps.pipeline.tasks.ping",
                "schedule": 1.0,
                "options": {"queue": "ticks"},
            }
        }
        assert only().startswith("pipeline.E014: Schedule 'tick' names the queue 'ticks'")

    def test_e014_a_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ping, "queue", "pings", raising=False)
        words = "pipeline.E014: The task apps.pipeline.tasks.ping names the queue 'pings'"
        assert only().startswith(words)

    @pytest.mark.parametrize("queues", [[Queue("mail")], {"mail": {}}])
    def test_what_is_declared_is_right(self, settings: Settings, queues: object) -> None:
        settings.CELERY_TASK_QUEUES = queues
        settings.CELERY_TASK_ROUTES = {"a.*": {"queue": "mail"}, "b.*": {"queue": "celery"}}
        assert found() == []


class TestEncryption:
    @pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
    def test_w001_plain_text_on_a_network_of_others(self, settings: Settings, name: str) -> None:
        setattr(settings, name, "redis://redis.example.com:6379/0")
        assert only().startswith(f"pipeline.W001: {name} travels to redis.example.com in plain")

    def test_i001_plain_text_to_a_neighbour(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "redis://redis:6379/0"
        assert only().startswith("pipeline.I001: CELERY_BROKER_URL travels to redis in plain text")

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    def test_plain_text_inside_this_machine_is_right(self, settings: Settings, host: str) -> None:
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
            ("amqps://rabbit.example.com//", False, False),
            ("amqps://rabbit.example.com//", {"server_hostname": None}, True),
            (
                "amqps://rabbit.example.com//",
                {"server_hostname": None, "cert_reqs": ssl.CERT_NONE},
                False,
            ),
        ],
    )
    def test_e011_encryption_that_verifies_nobody(
        self, settings: Settings, url: str, use_ssl: Any, right: bool
    ) -> None:
        settings.CELERY_BROKER_URL = url
        settings.CELERY_BROKER_USE_SSL = use_ssl
        if right:
            assert found() == []
        else:
            assert only().startswith("pipeline.E011: CELERY_BROKER_URL is encrypted to whoever")


def test_e012_pickle(settings: Settings) -> None:
    settings.CELERY_ACCEPT_CONTENT = ["json", "pickle"]
    assert only().startswith("pipeline.E012: Pickle is accepted")


def test_e013_eager_tasks_in_production(settings: Settings) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert only().startswith("pipeline.E013: CELERY_TASK_ALWAYS_EAGER")
    settings.DEBUG = True
    assert checks.messages() == []


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        (
            "DATABASE_URL",
            "postgres://shop:secret/word@db/shop",
            "invalid: Not a valid database URL",
        ),
        ("BEAT_LOCK_DATABASE_URL", "shop:secret@db", "invalid: Not a valid database URL"),
        ("CELERY_BROKER_URL", "sentinel://:secret@one:port/0", "has a port that is no number"),
        ("CELERY_BROKER_URL", "sentinel://:secret@one:1/shop", "ends in 'shop'"),
    ],
)
def test_a_url_that_the_settings_take_apart_is_refused_in_words(
    name: str, url: str, words: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.local", name: url},
        cwd=project.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


class TestReport:
    def test_an_error_is_one_line_and_the_end(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_TASK_MAX_RETRIES = 3
        with pytest.raises(SystemExit) as ended:
            checks.report_and_exit()
        assert ended.value.code == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("pipeline.E001: CELERY_TASK_MAX_RETRIES")

    def test_a_warning_is_a_line_and_no_end(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_BROKER_URL = "redis://redis.example.com/0"
        checks.report_and_exit()
        assert capsys.readouterr().err.startswith("pipeline.W001:")

    def test_what_was_silenced_is_not_said(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.CELERY_TASK_MAX_RETRIES = 3
        settings.SILENCED_SYSTEM_CHECKS = ["pipeline.E001"]
        checks.report_and_exit()
        assert capsys.readouterr().err == ""


def test_every_id_is_explained() -> None:
    """In docs/checks.md, with an example."""
    known = set(re.findall(r"[EWI]\d{3}", inspect.getsource(checks)))
    explained = (project.BASE_DIR / "docs" / "checks.md").read_text()
    assert known == set(re.findall(r"^## pipeline\.([EWI]\d{3})", explained, re.MULTILINE))


@pytest.mark.faults  # for its processes
def test_worker_and_beat_end_in_words_and_not_in_a_traceback(tmp_path: Path) -> None:
    wrong = {
        "CELERY_BROKER_URL": ("reddis://localhost/0", "Did you mean redis?"),
        "DATABASE_URL": ("postgres://db:5432", "names no database"),
        "TIME_ZONE": ("Europe/Viena", "is no time zone. Write Europe/Vienna, for example."),
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
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1, (role, said)
        assert wrong[name][1] in said
        assert "Traceback" not in said
        assert len(said.splitlines()) <= 3, said
