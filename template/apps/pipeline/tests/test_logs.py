import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery, Task, chain, shared_task
from celery.utils.log import get_task_logger
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from kombu import Message
from pytest_django import Settings

from apps.pipeline.logs import ids
from apps.pipeline.logs.lines import Ids, LineFormatter, WithoutData
from apps.pipeline.logs.middleware import RequestIdMiddleware
from apps.pipeline.testing import running, worker_thread
from apps.pipeline.tests.test_settings import PRODUCTION
from apps.pipeline.worker.request import Request
from config.celery import app as project_app

WAIT_TIMEOUT = 60  # seconds
SECRET = "hunter2"

logger = logging.getLogger("apps.shop")


class LibraryTask(Task):  # type: ignore[type-arg]
    """The base class of a library, which does not know this project."""


@shared_task
def parent(secret: str) -> str:
    logger.info("the parent runs")
    child.delay(secret)
    return secret


@shared_task(base=LibraryTask)
def child(secret: str) -> str:
    logger.info("the child runs")
    return secret


@shared_task(bind=True, max_retries=1)
def again(self: Any, secret: str) -> None:
    raise self.retry(countdown=0, exc=OSError("no connection"))


@shared_task
def audited(secret: str) -> str:
    get_task_logger("billing").info("audited")
    return secret


Records = list[logging.LogRecord]


@pytest.fixture
def records() -> Iterator[Records]:
    """The records that pass the filters of the setting LOGGING."""
    found: Records = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Handler()
    handler.addFilter(Ids())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    yield
    ids.request_id.set("")


def wait_for(records: Records, text: str, count: int = 1) -> Records:
    deadline = time.monotonic() + WAIT_TIMEOUT
    while len(found := [one for one in records if text in one.getMessage()]) < count:
        assert time.monotonic() < deadline, [one.getMessage() for one in records]
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("name", ["celery.worker.request", "celery.worker.consumer.consumer"])
@pytest.mark.parametrize("method", ["ack_log_error", "reject_log_error"])
def test_a_lost_acknowledgement_is_a_warning(
    caplog: pytest.LogCaptureFixture, method: str, name: str
) -> None:
    logger = logging.getLogger(name)
    channel = Mock(no_ack_consumers=None)
    channel.basic_ack.side_effect = channel.basic_reject.side_effect = ConnectionError("lost")
    getattr(Message(channel=channel, delivery_tag="8"), method)(logger, (ConnectionError,))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "The connection to the broker is lost. A message that was not acknowledged will be "
        "delivered again: lost"
    )
    assert record.exc_info is None


class TestRequests:
    @staticmethod
    def ask(**headers: str) -> HttpResponse:
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(ids.ids()["request_id"])

        return RequestIdMiddleware(view)(RequestFactory().get("/", headers=headers))

    def test_the_id_of_the_proxy_is_kept(self) -> None:
        response = self.ask(**{"X-Request-ID": "a-good.id_1"})
        assert (response.headers["X-Request-ID"], response.text) == ("a-good.id_1", "a-good.id_1")

    @pytest.mark.parametrize(
        "given", ["", "short", "x" * 101, "id with blanks", 'id"quoted"', "á" * 9]
    )
    def test_an_id_that_is_not_well_formed_is_replaced(self, given: str) -> None:
        response = self.ask(**{"X-Request-ID": given})
        assert uuid.UUID(response.headers["X-Request-ID"]).hex == response.text

    def test_the_next_request_of_the_process_has_another_id(self) -> None:
        assert self.ask().text != self.ask().text

    def test_the_id_is_forgotten_after_the_line_of_the_server(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.ask()
        assert "request_id" in ids.ids()
        monkeypatch.setattr("django.db.connections.all", lambda **_: [])  # which it would close
        request_finished.send(sender=None)
        assert "request_id" not in ids.ids()

    def test_each_response_of_the_project_has_an_id(self, client: Client) -> None:
        assert client.get("/healthz").headers["X-Request-ID"]


class TestTasks:
    @pytest.fixture(autouse=True)
    def worker(self, live_app: Celery, transactional_db: None) -> Iterator[None]:
        with worker_thread(live_app, loglevel="info"):
            yield

    def test_the_ids_of_request_and_schedule_reach_the_child(self, records: Records) -> None:
        ids.request_id.set("request-1")
        with ids.holding(ids.schedule, "each night"):
            sent = parent.delay(SECRET)
        ids.request_id.set("")
        [of_parent] = map(vars, wait_for(records, "the parent runs"))
        [of_child] = map(vars, wait_for(records, "the child runs"))
        names = ("request_id", "schedule", "root_id")
        assert [of_parent[name] for name in names] == ["request-1", "each night", sent.id]
        assert [of_child[name] for name in names] == ["request-1", "each night", sent.id]
        assert (of_parent["task_id"], of_child["parent_id"]) == (sent.id, sent.id)
        assert of_child["task_name"] == child.name

    def test_the_ids_reach_the_next_task_of_a_chain(self, records: Records) -> None:
        ids.request_id.set("request-2")
        chain(child.si("one"), child.si("two")).delay()
        ids.request_id.set("")
        found = wait_for(records, "the child runs", 2)
        assert [vars(one)["request_id"] for one in found] == ["request-2"] * 2

    def test_the_main_process_has_the_ids_when_it_receives_a_task(self, records: Records) -> None:
        ids.request_id.set("request-3")
        sent = child.delay(SECRET)
        [line] = wait_for(records, f"{child.name}[{sent.id}] received")
        assert (vars(line)["task_id"], vars(line)["request_id"]) == (sent.id, "request-3")

    def test_a_retry_keeps_the_ids_and_has_its_own_time(self, records: Records) -> None:
        ids.request_id.set("request-4")
        again.apply_async([SECRET], headers={"sent_at": 1.0})
        ids.request_id.set("")
        [retried], [failed] = wait_for(records, "] retry: "), wait_for(records, "] raised ")
        for line in (retried, failed):
            assert vars(line)["request_id"] == "request-4"
            assert vars(line)["task_id"]
            assert 0 <= vars(line)["queue_wait"] < WAIT_TIMEOUT
            assert 0 <= vars(line)["run_time"] < WAIT_TIMEOUT
        assert "no connection" in failed.getMessage()

    def test_the_last_line_has_the_times_and_no_result(self, records: Records) -> None:
        sent = child.apply_async([SECRET], countdown=0.3)
        [line] = wait_for(records, f"{child.name}[{sent.id}] succeeded in ")
        assert line.getMessage().endswith("s)")
        assert 0 <= vars(line)["run_time"] < WAIT_TIMEOUT
        assert 0 <= vars(line)["queue_wait"] < WAIT_TIMEOUT

    def test_no_record_has_arguments_or_results(self, records: Records) -> None:
        parent.delay(SECRET)
        again.apply_async([SECRET])
        wait_for(records, f"{child.name}[")
        wait_for(records, "] succeeded in ", 2)
        wait_for(records, "] raised ")
        for record in records:
            if record.name.startswith(("celery", "apps")):
                plain = {name: value for name, value in vars(record).items() if name != "exc_info"}
                assert SECRET not in repr(plain), record.getMessage()


def test_the_wait_of_a_task_with_an_eta_begins_at_its_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("celery.app.trace", logging.INFO, "", 0, "Task", None, None)
    headers = {"sent_at": 1.0, "started_at": 1004.5, "eta": "1970-01-01T00:16:40+00:00"}
    token = ids.message.set(headers)
    WithoutData().filter(record)
    ids.message.reset(token)
    assert vars(record)["queue_wait"] == 4.5


@pytest.mark.parametrize("name", ["UNKNOWN_FORMAT", "INVALID_TASK_ERROR", "MESSAGE_DECODE_ERROR"])
def test_a_discarded_message_is_not_written(name: str) -> None:
    template = getattr(import_module("celery.worker.consumer.consumer"), name)
    values = (SECRET,) * template.replace("%%", "").count("%")
    record = logging.LogRecord("celery", logging.ERROR, "", 0, template, values, None)
    WithoutData().filter(record)
    assert record.getMessage() == "Removed an invalid message from its queue"


@pytest.mark.parametrize("base", [Task, LibraryTask])
def test_what_the_main_process_logs_of_a_task_has_its_ids(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base.Request == "apps.pipeline.worker.request:Request"
    seen: list[dict[str, str]] = []
    for method in ("on_timeout", "on_failure"):
        monkeypatch.setattr(
            f"celery.worker.request.Request.{method}", lambda *_: seen.append(ids.ids())
        )
    request: Any = Request.__new__(Request)
    request._request_dict = {"id": "8", "task": "shop.pay", "root_id": "7", "request_id": "r"}
    request.time_start = 1.0
    request._task, request._context = Mock(), Mock()
    request.on_timeout(False, 5)
    request.on_failure(Mock())
    expected = {"request_id": "r", "task_id": "8", "task_name": "shop.pay", "root_id": "7"}
    assert seen == [expected, expected]
    assert ids.ids() == {}


DJANGO_LOGS = """
import django, logging
django.setup()
logging.getLogger("django.server").warning("Hello from the server")
logging.getLogger("django.request").warning("Hello from the request")
"""


def test_a_line_of_django_is_written_once_with_local_settings() -> None:
    local = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.local"}
    command = [sys.executable, "-c", DJANGO_LOGS]
    done = subprocess.run(command, env=local, capture_output=True, text=True, check=True)
    assert done.stderr.count("Hello from the server") == 1
    assert done.stderr.count("Hello from the request") == 1


class TestFormats:
    def test_a_line_for_people_ends_with_the_ids(self) -> None:
        record = logging.LogRecord("shop", logging.INFO, "", 0, "paid %s", (8,), None)
        vars(record).update(request_id="r", task_id="t", root_id="t", schedule="each night")
        line = LineFormatter("{levelname} {message}", style="{").format(record)
        assert line == "INFO paid 8  [request=r task=t schedule=each night]"

    def test_an_id_in_the_text_is_not_repeated(self) -> None:
        record = logging.LogRecord("celery", logging.INFO, "", 0, "Task a[t] received", None, None)
        vars(record).update(task_id="t", root_id="t")
        assert LineFormatter("{message}", style="{").format(record) == "Task a[t] received"


def test_gunicorn_needs_no_settings_variable() -> None:
    """Its configuration is read before `config.wsgi`, which has the default."""
    urls = dict.fromkeys(("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), "redis://127.0.0.1:1/0")
    environment = os.environ | PRODUCTION | urls
    del environment["DJANGO_SETTINGS_MODULE"]
    command = [sys.executable, "-m", "gunicorn", "--check-config", "config.wsgi"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "option", "level"),
    [("WARNING", "info", "WARNING"), ("DEBUG", "info", "DEBUG"), ("", "debug", "DEBUG")],
)
def test_log_level_overrides_the_level_of_the_command(
    records: Records,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    option: str,
    level: str,
) -> None:
    settings.LOG_LEVEL = variable
    monkeypatch.setattr("celery.app.log.Logging._setup", False)
    project_app.log.setup_logging_subsystem(loglevel=option)
    tasks = logging.getLogger("celery.task")
    assert logging.getLevelName(logging.getLogger().level) == level
    assert (tasks.level, tasks.propagate, tasks.handlers) == (logging.NOTSET, True, [])


def test_a_worker_writes_json_in_production(
    live_app: Celery, broker_url: str, tmp_path: Path, settings: Settings, transactional_db: None
) -> None:
    production = {name: it for name, it in PRODUCTION.items() if name != "DATABASE_URL"}
    command = ("worker", "-l", "info", "--concurrency=1", "--include", __name__)
    ids.request_id.set("request-5")
    sent = audited.delay(SECRET)
    with running(*command, broker=broker_url, directory=tmp_path, **production) as log:
        deadline = time.monotonic() + WAIT_TIMEOUT
        while "succeeded in" not in (text := log.read_text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
    lines = [json.loads(line) for line in text.splitlines() if sent.id in line]
    assert [line["message"].split("] ")[-1].split(" ")[0] for line in lines] == [
        "received",
        "audited",
        "succeeded",
    ]
    for line in lines:
        assert (line["request_id"], line["task_id"], line["root_id"]) == (
            "request-5",
            sent.id,
            sent.id,
        )
    assert {"queue_wait", "run_time"} <= lines[-1].keys()
    assert SECRET not in text
