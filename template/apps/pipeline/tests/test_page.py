"""The page: what it shows, and to whom."""

import json
import re
import sys
from datetime import timedelta
from importlib.util import module_from_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery import current_app
from celery.schedules import schedule as interval
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import Resolver404, path, resolve
from django.utils import timezone, translation
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status import failed, page, parts, schedules, tasks, workers
from apps.pipeline.status.parts import Part
from apps.pipeline.status.schedules import scheduled
from apps.pipeline.status.snapshot import snapshot
from apps.pipeline.status.tasks import Recent
from apps.pipeline.status.trace import Trace, traced
from apps.pipeline.status.workers import Worker
from apps.pipeline.tests.test_views import broker_at
from apps.pipeline.tests.users import create_user

WORKS, DOWN = Part("broker", True, "answers"), Part("broker", False, "does not answer")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site")]


@pytest.fixture(autouse=True)
def here(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.RUNTIME_DIR = tmp_path
    (tmp_path / "beat.lock").touch()  # a Beat has run here
    monkeypatch.setattr(workers, "ANSWER_TIMEOUT", 0.01)
    # A heartbeat that a test writes is still recent when a busy machine has made the page.
    monkeypatch.setattr(heartbeat, "INTERVAL", 20)
    traced.clear()


def staff(*permissions: str, **options: Any) -> Client:
    client = Client(**options)
    user = create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def page_of(client: Client, monkeypatch: pytest.MonkeyPatch, *asked: Worker) -> str:
    """The page while these workers answer."""
    monkeypatch.setattr(parts, "broker", lambda: WORKS)
    monkeypatch.setattr(workers, "workers", lambda **_: [*asked])
    return client.get("/").content.decode()


def has_run(name: str = "shop.send", outcome: str = "sent") -> None:
    """Add a task to those that the page has traced."""
    events = [("clicked", 1_000_000_000.0), ("task-sent", 1_000_000_000.5)]
    traced.append(Trace(name, "abc", ok=True, outcome=outcome, events=events))


class TestLanding:
    def test_shows_the_status_of_each_part(self, client: Client) -> None:
        heartbeat.write("worker")
        shown = client.get("/").content.decode()
        for part in ("Web", "Broker", "Worker", "Results", "Beat", "Database"):
            assert f"<h2>{part}</h2>" in shown
        assert "ready for tasks" in shown
        assert "not running, or still starting" in shown
        assert "<code>celery -A config beat</code>" in shown

    def test_the_part_that_is_polled_has_no_form(self, client: Client) -> None:
        shown = client.get("/?live").content.decode()
        assert "<h2>Broker</h2>" in shown
        assert "<form" not in shown

    def test_sends_no_task_to_a_broker_that_is_down_and_hides_its_password(
        self, client: Client
    ) -> None:
        with broker_at(free_port()):
            shown = client.post("/").content.decode()
        assert "Not sent, because the broker redis://:**@127.0.0.1" in shown
        assert "secret" not in shown

    def test_says_that_the_task_does_not_exist(self, client: Client, settings: Settings) -> None:
        settings.LANDING_TASK = "apps.nowhere.tasks.gone"
        shown = client.post("/").content.decode()
        assert "LANDING_TASK is apps.nowhere.tasks.gone, but this task does not exist." in shown

    def test_streams_the_task_as_escaped_html(self, client: Client, settings: Settings) -> None:
        settings.LANDING_TASK = "<script>.alert"
        response = client.post("/", {"stream": "1"})
        [line] = response.getvalue().decode().splitlines()
        assert json.loads(line)["done"] is True
        assert "&lt;script&gt;.alert" in json.loads(line)["html"]
        assert "<script" not in json.loads(line)["html"]

    def test_a_task_that_is_named_script_is_harmless(self, client: Client) -> None:
        has_run("<script>alert(1)</script>", outcome="<img src=x onerror=alert(2)>")
        shown = client.get("/").content.decode()
        assert "&lt;script&gt;alert(1)" in shown
        assert "<script>alert" not in shown
        assert "<img" not in shown

    def test_exists_only_with_local_settings(self) -> None:
        assert resolve("/healthz", "apps.pipeline.urls")
        with pytest.raises(Resolver404):
            resolve("/", "apps.pipeline.urls")

    def test_it_needs_no_admin(
        self, client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert 'href="/admin/"' in page_of(client, monkeypatch)
        settings.ROOT_URLCONF = (path("", page.landing),)
        shown = page_of(client, monkeypatch)
        assert "<h2>Broker</h2>" in shown
        assert "admin/" not in shown


class TestPolicy:
    def test_nothing_is_inline_or_from_another_host(self, client: Client) -> None:
        response = client.get("/")
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        shown = response.content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|//[a-z]+\.", shown)
        assert re.findall(r"<script src=.(\S+?)\W? ", shown) == ["/static/pipeline/page.js"]

    def test_a_post_without_the_token_is_refused(self) -> None:
        assert Client(enforce_csrf_checks=True).post("/").status_code == 403
        client = staff("run_task", enforce_csrf_checks=True)
        assert client.post("/staff/").status_code == 403

    def test_is_not_cached(self, client: Client) -> None:
        assert "no-store" in client.get("/").headers["Cache-Control"]


class TestStaff:
    @pytest.mark.parametrize("method", ["get", "post"])
    @pytest.mark.parametrize("query", ["", "?live", "?stream=1"])
    def test_a_stranger_learns_nothing(self, client: Client, method: str, query: str) -> None:
        response = getattr(client, method)(f"/staff/{query}")
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/admin/login/")
        assert response.content == b""

    def test_a_user_who_is_not_staff_learns_nothing(self, client: Client) -> None:
        client.force_login(create_user("guest"))
        assert client.get("/staff/").status_code == 302

    def test_staff_without_the_permission_see_no_button_and_no_result(self) -> None:
        has_run(outcome="a customer's address")
        client = staff()
        shown = client.get("/staff/").content.decode()
        assert "<h2>Broker</h2>" in shown
        assert "<button" not in shown
        assert "pipeline.run_task" in shown
        assert "address" not in shown
        assert client.post("/staff/").status_code == 403
        assert client.post("/staff/", {"stream": "1"}).status_code == 403

    def test_staff_with_the_permission_can_press_the_button(self, settings: Settings) -> None:
        settings.LANDING_TASK = "apps.nowhere.tasks.gone"
        client = staff("run_task")
        assert "<button" in client.get("/staff/").content.decode()
        shown = client.post("/staff/")
        assert shown.status_code == 200
        assert b"this task does not exist" in shown.content


@pytest.fixture
def row() -> Any:
    """A declared schedule that has run, in the database."""
    if not apps.is_installed("django_celery_beat"):
        pytest.skip("the schedule is not a table here")
    from django_celery_beat.models import PeriodicTask

    from apps.pipeline.beat.sync import MARK, sync

    sync()
    row = PeriodicTask.objects.filter(headers__contains=MARK, enabled=True)[0]
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=timezone.now(), total_run_count=7)
    return row


def test_the_page_is_in_english_in_every_language(row: Any, client: Client) -> None:
    two_hours_ago = timezone.now() - timedelta(hours=2)
    type(row).objects.filter(pk=row.pk).update(last_run_at=two_hours_ago)
    with translation.override("de"):
        assert "2\xa0hours ago" in client.get("/").content.decode()


class TestSwitch:
    def test_staff_with_the_permission_can_disable_and_enable_a_schedule(self, row: Any) -> None:
        from django_celery_beat.models import PeriodicTasks

        client = staff("change_periodictask")
        assert f'name="disable" value="{row.pk}"' in client.get("/staff/").content.decode()
        response = client.post("/staff/", {"disable": row.pk})
        assert (response.status_code, response.headers["Location"]) == (303, "/staff/#schedules")
        row.refresh_from_db()
        assert (row.enabled, row.total_run_count) == (False, 7)
        assert f'name="enable" value="{row.pk}"' in client.get("/staff/").content.decode()
        told = PeriodicTasks.last_change()
        client.post("/staff/", {"enable": row.pk})
        row.refresh_from_db()
        assert (row.enabled, row.last_run_at) == (True, None), "runs that were due do not follow"
        assert PeriodicTasks.last_change() > told, "Beat reads the rows again"
        assert LogEntry.objects.filter(object_id=str(row.pk)).count() == 2
        type(row).objects.update(enabled=False, start_time=told)
        client.post("/staff/", {"enable": row.pk})
        row.refresh_from_db()
        assert row.last_run_at > told, "else it would run at once"

    def test_a_key_of_a_thousand_has_no_separator(
        self, row: Any, client: Client, settings: Settings
    ) -> None:
        settings.USE_THOUSAND_SEPARATOR = True
        type(row).objects.filter(pk=row.pk).update(id=1234)
        assert 'name="disable" value="1234"' in client.get("/").content.decode()
        client.post("/", {"disable": "1234"})
        assert not type(row).objects.get(pk=1234).enabled

    def test_a_sync_keeps_a_declared_schedule_disabled(self, row: Any, client: Client) -> None:
        from apps.pipeline.beat.sync import sync

        client.post("/", {"disable": row.pk})
        assert sync() == []
        row.refresh_from_db()
        assert row.enabled is False

    def test_staff_without_the_permission_and_strangers_cannot(self, row: Any) -> None:
        Client().post("/staff/", {"disable": row.pk})
        client = staff("run_task", "view_periodictask")
        assert client.post("/staff/", {"disable": row.pk}).status_code == 403
        assert 'role="switch"' not in client.get("/staff/").content.decode()
        row.refresh_from_db()
        assert row.enabled is True

    def test_a_post_without_the_token_is_refused(self, row: Any) -> None:
        client = staff("change_periodictask", enforce_csrf_checks=True)
        assert client.post("/staff/", {"disable": row.pk}).status_code == 403

    @pytest.mark.parametrize("key", ["0", "gone"])
    def test_a_row_that_does_not_exist_changes_nothing(self, key: str, row: Any) -> None:
        assert staff("change_periodictask").post("/staff/", {"disable": key}).status_code == 303

    def test_without_the_database_scheduler_there_is_no_switch(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(page, "in_database", lambda: False)
        assert client.post("/", {"disable": "1"}).status_code == 403
        assert 'role="switch"' not in client.get("/").content.decode()


class TestWorkers:
    def test_an_answer_counts_before_the_heartbeat_of_this_machine(self) -> None:
        one = Worker("celery@one", answers=True, processes=2, running={"celery": 1})
        part = workers.as_part([one, Worker("celery@gone")], WORKS)
        assert part == Part("worker", True, "1 worker answers, 1 of 2 processes busy")

    def test_its_last_task_and_a_version_that_is_not_that_of_web_are_shown(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        settings.APP_VERSION = "2.0"
        old = Worker("celery@old", answers=True, version="1.0", last=("shop.<pay>", 1_000.0))
        new = Worker("celery@new", answers=True, version="2.0")
        shown = page_of(client, monkeypatch, old, new)
        assert "shop.&lt;pay&gt;" in shown
        assert shown.count("differs from web") == 1
        assert "A worker has another version than web (2.0)." in shown
        assert "another version than web" not in page_of(client, monkeypatch, new)

    def test_without_the_permission_they_are_not_asked_for_tasks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bool] = []

        def ask(*, with_tasks: bool) -> None:
            asked.append(with_tasks)

        monkeypatch.setattr(parts, "broker", lambda: WORKS)
        monkeypatch.setattr(workers, "workers", ask)
        client = staff()
        client.get("/staff/")
        assert asked == [False]

    def test_their_tasks_are_listed_escaped(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = {
            "id": "abc",
            "name": "<script>",
            "arguments": "('<img>',)",
            "keywords": "{}",
            "retries": 1,
            "parent": "def",
            "root": "def",
            "group": None,
            "schedule": "nightly",
            "events": [("received", 1_000.0), ("started", 1_000.5), ("failed", 1_002.0)],
            "outcome": "<b>boom</b>",
            "traceback": "<i>line 1</i>",
        }
        shown = page_of(client, monkeypatch, Worker("one", answers=True, tasks=[record]))
        for text in ("&lt;script&gt;", "&lt;img&gt;", "&lt;b&gt;boom", "&lt;i&gt;line 1"):
            assert text in shown
        for text in ("<img", "<b>", "<i>", "<script>"):
            assert text not in shown
        assert "failed <small>after 1500.0 ms</small>" in shown
        assert "1 retry" in shown

    def test_without_an_answer_a_recent_heartbeat_counts(self) -> None:
        heartbeat.write("worker")
        assert workers.as_part([], WORKS).ok

    def test_without_an_answer_and_with_an_older_heartbeat_it_is_down(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heartbeat.write("worker")
        monkeypatch.setattr(heartbeat, "age", lambda _: 25.0)
        assert workers.as_part([], WORKS).ok is False
        assert workers.as_part(None, DOWN).ok, "nobody can answer while the broker is down"
        assert workers.as_part(None, WORKS).ok, "SQS cannot ask workers"

    def test_a_worker_on_another_machine_is_not_known_while_the_broker_is_down(self) -> None:
        assert workers.as_part(None, DOWN).ok is None
        assert workers.as_part([], WORKS).ok is False


def test_a_schedule_that_cannot_be_computed_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not apps.is_installed("django_celery_beat"):
        pytest.skip("the schedule is not a table here")
    from django_celery_beat.models import IntervalSchedule, PeriodicTask, SolarSchedule

    PeriodicTask.objects.all().delete()
    monkeypatch.setitem(sys.modules, "ephem", None)  # as if it was not installed
    sunset = SolarSchedule.objects.create(event="sunset", latitude=52.5, longitude=13.4)
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    PeriodicTask.objects.create(name="sun", task="shop.send", solar=sunset)
    PeriodicTask.objects.create(name="often", task="shop.send", interval=every)
    found, _ = scheduled()
    assert {one.name: one.due is None for one in found} == {"often": False, "sun": True}


def test_a_stored_entry_is_due_after_its_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that redbeat computes counts the rest of a day from the last run, and not from now.

    Seen in celery-redbeat 2.4.2 (not reported yet).
    """
    ran = timezone.now() - timedelta(hours=12)
    entry = {"name": "daily", "task": "shop.send", "enabled": True, "last_run_at": ran}
    stored = SimpleNamespace(**entry, schedule=interval(timedelta(days=1)), due_at=timezone.now())
    scheduler = SimpleNamespace(stored=lambda: [stored])
    monkeypatch.setattr(schedules, "in_database", lambda: False)
    kind = Mock(stored=None, return_value=scheduler)
    monkeypatch.setattr(schedules, "symbol_by_name", lambda _: kind)
    [[found], _] = scheduled()
    assert found.due is not None
    assert abs(found.due - ran - timedelta(days=1)) < timedelta(minutes=1)


def test_schedules_do_not_need_the_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.contrib.admin.models", None)
    spec: Any = schedules.__spec__
    spec.loader.exec_module(module_from_spec(spec))


def test_schedules_have_owners_and_due_times(monkeypatch: pytest.MonkeyPatch) -> None:
    if not apps.is_installed("django_celery_beat"):
        pytest.skip("the schedule is not a table here")
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    PeriodicTask.objects.all().delete()
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    ran = timezone.now() - timedelta(minutes=4)
    rows: dict[str, dict[str, Any]] = {
        "mine": {"last_run_at": ran + timedelta(minutes=1)},
        "declared": {"headers": '{"declared_as": "declared"}', "last_run_at": ran},
        "late": {"last_run_at": ran - timedelta(hours=1)},
        "off": {"enabled": False},
    }
    for name, options in rows.items():
        PeriodicTask.objects.create(name=name, task="shop.send", interval=every, **options)
    found, count = scheduled()
    assert count == 4
    assert [(one.name, one.owner, one.enabled) for one in found] == [
        ("late", "admin", True),
        ("declared", "code", True),
        ("mine", "admin", True),
        ("off", "admin", False),
    ]
    assert snapshot(with_results=False)["next"].name == "late"
    with monkeypatch.context() as patch:
        patch.setattr("apps.pipeline.status.schedules.SHOWN", 3)
        assert snapshot(with_results=False)["next"] is None, "a row that is not read may be next"
    late, declared, _, off = found
    assert late.due is not None
    assert abs(late.due - timezone.now()) < timedelta(minutes=1)
    assert declared.due is not None
    assert abs(declared.due - ran - timedelta(minutes=10)) < timedelta(minutes=1)
    assert off.due is None


def test_a_row_is_not_due_before_its_start_or_after_its_expiry() -> None:
    if not apps.is_installed("django_celery_beat"):
        pytest.skip("the schedule is not a table here")
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    PeriodicTask.objects.all().delete()
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    now = timezone.now()
    minute, hour = now + timedelta(minutes=1), now + timedelta(hours=1)
    rows: dict[str, dict[str, Any]] = {
        "started": {"start_time": minute},
        "later": {"start_time": hour},
        "expires later": {"expires": hour},
        "expires before": {"expires": minute},
        "expires at its start": {"start_time": hour, "expires": hour},
    }
    for name, options in rows.items():
        PeriodicTask.objects.create(
            name=name, task="shop.send", interval=every, last_run_at=now, **options
        )
    found, _ = scheduled()
    due = {one.name: one.due and round((one.due - now) / timedelta(minutes=1)) for one in found}
    assert due == {
        "started": 10,
        "later": 60,
        "expires later": 10,
        "expires before": None,
        "expires at its start": None,
    }


def test_stored_results_are_listed_with_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    if not apps.is_installed("django_celery_results"):
        pytest.skip("results are not in the database here")
    from django_celery_results.models import TaskResult

    monkeypatch.setattr(current_app.conf, "result_backend", "django-db")
    TaskResult.objects.create(
        task_id="abc",
        task_name="<script>",
        status="FAILURE",
        result="boom",
        traceback="line " * 999,
    )
    shown = staff("view_taskresult").get("/staff/").content.decode()
    assert "&lt;script&gt;" in shown
    assert "<dt>Error</dt><dd>boom</dd>" in shown
    assert f">{'line ' * 600}</pre>" in shown
    assert "<button" not in shown
    [row] = tasks._rows(Part("database", True, ""))
    assert {"result", "task_args", "traceback"} <= row.get_deferred_fields()  # not read whole


@pytest.mark.skipif(not failed.are_kept(), reason="failed tasks are not kept")
class TestRunAgain:
    @pytest.fixture
    def row(self) -> Any:
        from apps.pipeline.failed.models import FailedTask

        message = '{"args": [], "kwargs": {}, "options": {}}'
        return FailedTask.objects.create(
            task_id="the-id", name="apps.pipeline.tasks.ping", reason="error", message=message
        )

    @pytest.fixture
    def shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = timezone.now()
        tasks = [Recent("the-id", "ping", ok=False, state="failed", at=now, outcome="no")]
        monkeypatch.setattr("apps.pipeline.status.snapshot.recent", lambda *_: tasks)

    def test_staff_with_the_permission_run_a_failed_task_again_once(
        self, row: Any, shown: None, celery_app: Any
    ) -> None:
        client = staff("run_again", "run_task")
        text = client.get("/staff/").content.decode()
        assert 'name="run_again" value="the-id"' in text
        link = r"failedtask/\?run_again_as__isempty=1.>1 failed task</a> was not run again"
        assert re.search(link, text)
        response = client.post("/staff/", {"run_again": "the-id"})
        assert (response.status_code, response.headers["Location"]) == (303, "/staff/#tasks")
        row.refresh_from_db()
        assert row.run_again_as
        assert LogEntry.objects.filter(object_id=str(row.pk)).count() == 1
        assert "run_again" not in client.get("/staff/").content.decode()
        again = client.post("/staff/", {"run_again": "the-id"}).content.decode()
        assert "was not sent again: It was already run again" in again

    def test_staff_without_the_permission_and_strangers_cannot(self, row: Any, shown: None) -> None:
        Client().post("/staff/", {"run_again": "the-id"})
        client = staff("run_task", "change_periodictask")
        assert client.post("/staff/", {"run_again": "the-id"}).status_code == 403
        assert "Run again" not in client.get("/staff/").content.decode()
        row.refresh_from_db()
        assert not row.run_again_as

    def test_a_task_that_was_discarded_is_a_problem_in_words(self, client: Client) -> None:
        page = client.post("/", {"run_again": "gone"}).content.decode()
        assert "The row of this failed task was deleted." in page
