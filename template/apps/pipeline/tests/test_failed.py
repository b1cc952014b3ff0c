"""The failed tasks: what is kept of them, and how they run again."""

import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery, chain, current_app, shared_task
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded
from celery.result import AsyncResult
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.test import Client
from django.utils import timezone
from kombu import Message
from kombu.exceptions import OperationalError as BrokerError
from kombu.utils.json import dumps, loads

if "apps.pipeline.failed" not in settings.INSTALLED_APPS:
    pytest.skip("failed tasks are not kept", allow_module_level=True)

from apps.pipeline.broker.queues import UNKNOWN_QUEUE
from apps.pipeline.failed import again, record, signals, tasks
from apps.pipeline.failed.collect import collect
from apps.pipeline.failed.message import NotKeptError, message
from apps.pipeline.failed.models import FailedTask, Reason
from apps.pipeline.failed.signals import on_revoked
from apps.pipeline.testing import running
from apps.pipeline.tests.users import create_user
from apps.pipeline.tests.waiting import wait_until
from apps.pipeline.worker import unusable

PAGE = "/admin/pipeline_failed/failedtask/"
WAIT_TIMEOUT = 120  # seconds
calls: list[Any] = []
told: list[str] = []
oven = SimpleNamespace(cold=True)


@shared_task(name="mill.bake", max_retries=1, default_retry_delay=0)
def bake(loaves: int, *, retries: int = 0) -> int:
    calls.append(loaves)
    if bake.request.retries < retries:
        raise bake.retry()
    if oven.cold:
        raise ValueError(f"no {loaves} loaves\0in a cold oven")
    return loaves


@shared_task(name="mill.sell")
def sell(loaves: int) -> int:
    return loaves * 3


@shared_task(name="mill.pay", hide_arguments=True, max_retries=1, default_retry_delay=0)
def pay(card: str) -> None:
    request: Any = pay.request
    calls.append((request.argsrepr, request.kwargsrepr))
    if pay.request.retries < 1:
        raise pay.retry()
    raise ValueError("declined")


@shared_task(name="mill.burn", max_retries=0)
def burn() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="mill.prove", soft_time_limit=2, time_limit=3)
def prove(hours: int) -> None:
    with suppress(SoftTimeLimitExceeded):
        time.sleep(hours * 3600)
    time.sleep(hours * 3600)


@shared_task(name="mill.spoil")
def spoil() -> None:
    raise Reject("mouldy", requeue=False)


def tell(failed: FailedTask) -> None:
    told.append(str(failed))


def kept(count: int = 1) -> list[FailedTask]:
    wait_until(lambda: FailedTask.objects.count() >= count, f"{count} failed tasks")
    return list(FailedTask.objects.order_by("pk"))


def failed(**fields: Any) -> FailedTask:
    fields = {"task_id": "the-id", "name": sell.name, "reason": Reason.ERROR} | fields
    fields = {"message": '{"args": [2], "kwargs": {}, "options": {}}'} | fields
    return FailedTask.objects.create(**fields)


class Received(Message):
    """A message from a broker."""

    def __init__(self, body: str, headers: dict[str, Any]) -> None:
        super().__init__(
            body,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
            accept={"application/json"},
        )


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    calls.clear()
    told.clear()
    oven.cold = True


class TestKept:
    def test_a_task_whose_retries_are_spent(self, live_worker: Celery) -> None:
        sent = bake.apply_async([4], {"retries": 1}, priority=3)
        [row] = kept()
        assert calls == [4, 4]
        assert (row.task_id, row.name, row.reason) == (sent.id, "mill.bake", "error")
        assert row.error == "ValueError: no 4 loavesin a cold oven"
        assert "in bake\n" in row.traceback
        assert row.queue == live_worker.conf.task_default_queue
        assert row.attempts == 2
        assert row.worker
        assert '"priority": 3' in row.message

    def test_an_eager_task_is_not_kept(self, celery_app: Celery, db: None) -> None:
        with pytest.raises(ValueError, match="cold oven"):
            bake.delay(1)
        assert not FailedTask.objects.exists()

    def test_tasks_of_which_the_main_process_learns(
        self, live_app: Celery, transactional_db: None, broker_url: str, tmp_path: Path
    ) -> None:
        include = ("--include", __name__, "--concurrency", "3")
        with running("worker", *include, broker=broker_url, directory=tmp_path):
            expected = {
                spoil.delay().id: (Reason.ERROR, []),
                prove.delay(1).id: (Reason.TIME_LIMIT, [1]),
                prove.apply_async([2], soft_time_limit=99, time_limit=2).id: (
                    Reason.TIME_LIMIT,
                    [2],
                ),
                burn.delay().id: (Reason.KILLED, []),
            }
            rows = {row.task_id: row for row in kept(len(expected))}
        assert {key: row.reason for key, row in rows.items()} == {
            key: reason for key, (reason, _) in expected.items()
        }
        for key, (_, arguments) in expected.items():
            assert rows[key].queue == live_app.conf.task_default_queue
            assert rows[key].attempts == 1
            assert f'"args": {arguments}' in rows[key].message

    def test_an_unknown_task_after_some_time(
        self, live_worker: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unusable, "UNKNOWN_PAUSE", 0.05)
        monkeypatch.setattr(unusable, "UNKNOWN_OFFERS", 2)
        live_worker.send_task("shop.tasks.not_here_yet", args=["order", 7], task_id="the-id")
        [row] = kept()
        assert (row.task_id, row.name, row.reason) == (
            "the-id",
            "shop.tasks.not_here_yet",
            Reason.UNKNOWN,
        )
        with pytest.raises(ValueError, match="No task is registered as 'shop"):
            again.run_again(row)
        assert '"args": ["order", 7]' in row.message
        with pytest.raises(NotRegistered):
            AsyncResult("the-id", app=live_worker).get(timeout=WAIT_TIMEOUT)

    @pytest.mark.parametrize(
        ("headers", "body", "task_id"),
        [
            ({"task": "mill.sell", "id": "one"}, "{", "one"),
            ({}, "[]", ""),
            ({"task": "mill.sell"}, "[[], {}, {}]", ""),
            ({"task": "mill.sell", "id": "two"}, "[]", "two"),
            ({"task": "mill.sell", "id": "two"}, "null", "two"),
            ({"task": "mill.sell", "id": "two"}, "{}", "two"),
            ({"task": "mill.sell", "id": "two", "timelimit": "a"}, " [[], {}, {}]", "two"),
        ],
    )
    def test_an_unreadable_message(
        self, live_worker: Celery, headers: dict[str, str], body: str, task_id: str
    ) -> None:
        with live_worker.producer_or_acquire() as producer:
            producer.publish(
                body,
                headers=headers,
                content_type="application/json",
                content_encoding="utf-8",
                routing_key=live_worker.conf.task_default_queue,
            )
        [row] = kept()
        assert row.reason == Reason.UNREADABLE
        assert row.task_id == task_id or not task_id
        assert bool(row.message) is body.startswith("[[")  # its arguments can be read
        assert sell.delay(1).get(timeout=WAIT_TIMEOUT) == 3  # the worker continues

    def test_messages_of_the_queue_of_unknown_tasks_are_collected(
        self, live_app: Celery, db: None
    ) -> None:
        for number in range(2):
            live_app.send_task(sell.name, [number], queue=UNKNOWN_QUEUE)
        assert collect(live_app) == 2
        assert [row.reason for row in kept(2)] == [Reason.UNKNOWN] * 2
        assert collect(live_app) == 0

    def test_an_unknown_task_with_hidden_arguments_stays_in_the_queue(
        self, live_app: Celery, db: None
    ) -> None:
        live_app.send_task(sell.name, [1], queue=UNKNOWN_QUEUE, argsrepr="(hidden)")
        live_app.send_task(sell.name, [2], queue=UNKNOWN_QUEUE)
        assert collect(live_app) == 1
        assert '"args": [2]' in kept()[0].message
        with live_app.connection_for_read() as connection:
            received = connection.SimpleQueue(UNKNOWN_QUEUE).get(timeout=WAIT_TIMEOUT)
            received.ack()
        assert received.payload[0] == [1]

    @pytest.mark.filterwarnings("ignore:Exception raised outside body")
    def test_a_task_whose_error_the_result_backend_does_not_take(
        self, live_worker: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*args: Any, **options: Any) -> None:
            raise ConnectionError("no results")

        monkeypatch.setattr(type(live_worker.backend), "mark_as_failure", away)
        sent = bake.delay(4)
        [row] = kept()
        assert (row.task_id, row.reason) == (sent.id, Reason.ERROR)
        assert row.queue == live_worker.conf.task_default_queue
        assert "cold oven" in row.traceback

    @pytest.mark.parametrize("expired", [True, False])
    def test_a_revoked_task_if_the_project_wants_it(
        self, live_worker: Celery, expired: bool
    ) -> None:
        request = SimpleNamespace(
            id="the-id", args=[1], kwargs={}, delivery_info={}, hostname="one@here", retries=0
        )
        on_revoked(sell, request, expired=expired, signum=None)
        assert kept()[0].reason == (Reason.EXPIRED if expired else Reason.REVOKED)

    def test_when_the_database_answers_again(
        self, live_worker: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = record.store
        errors = [OperationalError("away")] * 2

        def store(row: dict[str, Any]) -> None:
            if errors:
                raise errors.pop()
            write(row)

        monkeypatch.setattr(record, "store", store)
        sent = bake.delay(5)
        [row] = kept()
        assert not errors
        assert row.task_id == sent.id


class TestHiddenArguments:
    def test_they_are_in_no_message_field_that_is_logged_and_not_kept(
        self, live_worker: Celery
    ) -> None:
        pay.delay("4111 1111")
        [row] = kept()
        assert calls == [("(hidden)", "(hidden)")] * 2  # also in the retry
        assert not row.message
        assert "4111" not in repr(vars(row))
        with pytest.raises(ValueError, match="The task hides its arguments"):
            again.run_again(row)

    def test_so_are_those_whose_representation_the_sender_gave(self, live_worker: Celery) -> None:
        bake.apply_async([7], argsrepr="(a secret number)")
        [row] = kept()
        assert row.obstacle.startswith("The task hides its arguments")

    @pytest.mark.parametrize("follower", [pay.s("4111"), sell.signature(argsrepr="x")])
    def test_a_chain_with_a_task_that_hides_its_arguments_is_not_kept(
        self, live_app: Celery, follower: Any
    ) -> None:
        request = {"chain": [sell.s(), chain(sell.s(), follower)]}
        with pytest.raises(NotKeptError, match="A later task or callback hides"):
            message(sell.name, [], {}, request)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_message_that_cannot_be_decoded_is_shown_unless_it_is_hidden(
    hidden: bool, db: None
) -> None:
    name = pay.name if hidden else sell.name
    received = Received("not JSON: 4111", {"task": name, "id": "the-id"})
    assert record.record_message(Reason.UNREADABLE, received, "cannot be read")
    assert ("4111" in FailedTask.objects.get().error) is not hidden


def test_a_message_without_the_third_part_of_its_body_is_kept(db: None) -> None:
    received = Received("[[2], {}, null]", {"task": "mill.unknown", "id": "the-id"})
    assert record.record_message(Reason.UNKNOWN, received, "no such task")
    assert '"args": [2]' in FailedTask.objects.get().message


def test_a_text_that_no_database_stores_is_kept_without_it(db: None) -> None:
    name = "mill." + "x" * 300
    error = "no file \udce9\0"
    assert record.record(Reason.ERROR, {}, (), {}, task_id="the-id", name=name, error=error)
    row = FailedTask.objects.get()
    assert (row.name, row.error) == (name[:255], "no file \\udce9")


def test_arguments_that_are_not_json_are_not_kept() -> None:
    with pytest.raises(NotKeptError, match="not JSON"):
        message(sell.name, [object()], {}, {})


class TestRunAgain:
    def test_it_runs_with_the_same_arguments_and_a_new_id(self, live_worker: Celery) -> None:
        bake.delay(4)
        [row] = kept()
        oven.cold = False
        new = again.run_again(row)
        assert AsyncResult(new, app=live_worker).get(timeout=WAIT_TIMEOUT) == 4
        row.refresh_from_db()
        assert row.run_again_as == new
        assert row.run_again_at

    def test_the_rest_of_its_chain_follows(self, live_worker: Celery) -> None:
        sent = chain(bake.s(4), sell.s()).delay()
        [row] = kept()
        oven.cold = False
        again.run_again(row)

        def result() -> object:
            return AsyncResult(sent.id, app=live_worker).result

        wait_until(lambda: result() == 12, "the end of the chain")  # it was the error before

    def test_it_runs_once(self, live_app: Celery, db: None) -> None:
        row = failed()
        new = again.run_again(row)
        for same in (row, FailedTask.objects.get()):
            with pytest.raises(ValueError, match="It was already run again"):
                again.run_again(same)
        assert FailedTask.objects.get().run_again_as == new

    def test_arguments_that_do_not_fit_the_task_are_refused(
        self, live_app: Celery, db: None
    ) -> None:
        row = failed(message='{"args": [1, 2, 3], "kwargs": {}, "options": {}}')
        with pytest.raises(ValueError, match="positional argument"):
            again.run_again(row)
        assert FailedTask.objects.get().run_again_as == ""

    def test_a_task_with_the_same_id_that_fails_again_can_run_again(self, db: None) -> None:
        old = timezone.now() - timedelta(days=40)
        failed(failed_at=old, run_again_as="another", run_again_at=old)
        details: dict[str, Any] = {"task_id": "the-id", "name": sell.name, "error": "no bread"}
        assert record.record(Reason.ERROR, {}, [2], {}, **details)
        row = FailedTask.objects.get()
        assert (row.run_again_as, row.run_again_at) == ("", None)
        assert row.failed_at > old

    def test_a_failure_that_is_stored_twice_does_not_run_again_twice(
        self, live_app: Celery, db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The task that stores it can run twice, for example if its process is killed."""
        settings.FAILED_TASK_NOTIFY = f"{__name__}.tell"
        app = Mock()
        monkeypatch.setattr(record, "current_app", app)
        details: dict[str, Any] = {"task_id": "the-id", "name": sell.name, "error": "no bread"}
        assert record.record(Reason.ERROR, {}, [2], {}, in_task=True, **details)
        [row] = app.send_task.call_args.args[1]
        tasks.store(row)
        new = again.run_again(FailedTask.objects.get())
        tasks.store(loads(dumps(row)))
        assert FailedTask.objects.get().run_again_as == new
        sent = [call.args[0] for call in app.send_task.call_args_list]
        assert sent == [record.STORE, record.NOTIFY]

    def test_a_failure_from_an_older_version_is_stored(self, db: None) -> None:
        old = timezone.now() - timedelta(days=40)
        failed(failed_at=old, run_again_as="another", run_again_at=old)
        record.store({"task_id": "the-id", "error": "no bread"})
        row = FailedTask.objects.get()
        assert (row.error, row.run_again_as) == ("no bread", "")
        assert row.failed_at > old

    @pytest.mark.django_db(transaction=True)
    def test_it_is_not_marked_before_the_broker_has_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **options: Any) -> None:
            assert transaction.get_connection().in_atomic_block  # a kill rolls it back
            raise ConnectionRefusedError

        monkeypatch.setattr(current_app.tasks[sell.name], "apply_async", refuse)
        with pytest.raises(ConnectionRefusedError):
            again.run_again(failed())
        assert FailedTask.objects.get().run_again_as == ""


def test_the_function_of_the_project_is_told(live_worker: Celery, settings: Any) -> None:
    settings.FAILED_TASK_NOTIFY = f"{__name__}.tell"
    sent = bake.delay(4)
    wait_until(lambda: told, "a call")
    assert told == [f"mill.bake[{sent.id}]"]


def test_a_failed_task_is_stored_although_the_broker_does_not_accept_the_notification(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FAILED_TASK_NOTIFY = f"{__name__}.tell"

    def refuse(*args: Any, **options: Any) -> None:
        raise BrokerError("out of memory")

    monkeypatch.setattr(current_app, "send_task", refuse)
    details: dict[str, Any] = {"task_id": "the-id", "name": sell.name, "error": "no bread"}
    assert record.record(Reason.ERROR, {}, [2], {}, **details)
    assert FailedTask.objects.get().error == "no bread"
    assert "FAILED_TASK_NOTIFY is not called for mill.sell[the-id]: out of memory" in caplog.text
    assert "is not kept" not in caplog.text


def test_a_notification_that_is_killed_is_not_a_failed_task(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be notified of, and killed again, for ever."""
    killed: dict[str, Any] = {"task_id": "the-id", "args": [1], "kwargs": {}, "einfo": None}
    killed |= {"exception": WorkerLostError("signal 9"), "request": {"id": "the-id"}}
    signals.on_failure(tasks.notify, **killed)
    assert not FailedTask.objects.exists()
    assert "FAILED_TASK_NOTIFY was stopped: signal 9" in caplog.text


def test_old_rows_are_deleted(db: None, settings: Any) -> None:
    settings.FAILED_TASK_DAYS = 7
    old = timezone.now() - timedelta(days=8)
    failed(task_id="old", failed_at=old)
    failed(task_id="new")
    tasks.delete_old()
    assert FailedTask.objects.get().task_id == "new"


@pytest.mark.usefixtures("site")
class TestAdmin:
    def test_the_action_sends_the_tasks_and_logs_it(
        self, admin_client: Client, live_worker: Celery
    ) -> None:
        rows = [failed(), failed(task_id="hidden", message="", obstacle="It hides <b>.")]
        form = {"action": "run_again", "_selected_action": [row.pk for row in rows]}
        page = admin_client.post(PAGE, form, follow=True).content.decode()
        assert "Sent mill.sell again, as " in page
        assert "It hides &lt;b&gt;." in page
        rows[0].refresh_from_db()
        assert (
            LogEntry.objects.get().get_change_message() == f"Run again as {rows[0].run_again_as}."
        )
        assert AsyncResult(rows[0].run_again_as, app=live_worker).get(timeout=WAIT_TIMEOUT) == 6

    @pytest.mark.parametrize("allowed", [True, False])
    def test_the_action_needs_its_permission(
        self, client: Client, celery_app: Celery, db: None, allowed: bool
    ) -> None:
        user = create_user("ada", is_staff=True)
        codes = ["view_failedtask", *(["run_again"] if allowed else [])]
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
        client.force_login(user)
        row = failed()
        form = {"action": "run_again", "_selected_action": [row.pk]}
        client.post(PAGE, form, follow=True)
        row.refresh_from_db()
        assert bool(row.run_again_as) == allowed

    def test_a_page_shows_the_arguments_and_the_traceback_as_text(
        self, admin_client: Client
    ) -> None:
        kept = '{"args": ["<b>"], "kwargs": {"to": 2}, "options": {}}'
        row = failed(message=kept, traceback="<script>")
        page = admin_client.get(f"{PAGE}{row.pk}/change/").content.decode()
        assert "&quot;&lt;b&gt;&quot;, to=2" in page
        assert "<script>" not in page.partition('id="content-main"')[2].partition("</form>")[0]
        query = {"run_again_as__isempty": "1", "q": "the-id"}
        found = admin_client.get(PAGE, query).content.decode()
        assert "Delete selected failed tasks" in found
        assert "1 failed task" in found


class TestCommand:
    def run(self, *arguments: str) -> str:
        output = StringIO()
        call_command("failed", *arguments, stdout=output)
        return output.getvalue()

    def test_it_lists_the_tasks_and_runs_them_again(self, celery_app: Celery, db: None) -> None:
        failed(error="ValueError: no\nmore")
        failed(task_id="other", message="", obstacle="It hides its arguments.")
        listed = self.run()
        assert "mill.sell[the-id]: error, ValueError: no\n" in listed
        assert listed.endswith("2 failed tasks have not been run again.\n")
        assert "Sent mill.sell[the-id] again, as " in self.run("--run-again", "the-id")
        assert self.run().endswith("1 failed task has not been run again.\n")
        with pytest.raises(CommandError, match=r"other\]: It hides its arguments"):
            self.run("--run-again", "all")
        with pytest.raises(CommandError, match=r"other\]: It hides its arguments"):
            self.run("--run-again", "all", "the-id")
        with pytest.raises(CommandError, match="No failed task has the id missing"):
            self.run("--run-again", "missing")

    def test_it_shows_the_time_of_the_project(self, db: None, settings: Any) -> None:
        settings.TIME_ZONE = "Europe/Vienna"
        failed(failed_at=datetime(2030, 1, 5, 12, tzinfo=UTC))
        assert self.run().startswith("2030-01-05 13:00 mill.sell[the-id]")

    def test_it_collects_the_queue(self, live_app: Celery, db: None) -> None:
        live_app.send_task(sell.name, [1], queue=UNKNOWN_QUEUE)
        assert "Stored 1 messages" in self.run("--collect")


def test_the_worker_continues_if_nothing_can_be_stored(
    live_worker: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr(record, "_store_or_send", fail)
    bake.delay(1)
    wait_until(lambda: "is not kept" in caplog.text, "an error in the log")
    assert sell.delay(1).get(timeout=WAIT_TIMEOUT) == 3
