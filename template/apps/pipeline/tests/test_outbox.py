"""The outbox, on a real broker."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, group, shared_task
from celery.app.backends import BACKEND_ALIASES
from celery.exceptions import TaskRevokedError
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError
from kombu.utils import json
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.outbox import publishing, sender
from apps.pipeline.outbox.direct import directly
from apps.pipeline.outbox.models import Message
from apps.pipeline.outbox.relay import relay
from apps.pipeline.status import outbox, report
from apps.pipeline.status.snapshot import snapshot
from apps.pipeline.tasks import ping
from apps.pipeline.testing import worker_thread

TIMEOUT = 60  # seconds


@shared_task
def add(*numbers: int) -> int:
    return sum(numbers)


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


class LibraryTask(Task):  # type: ignore[type-arg]
    """The base class of a library, which does not know this project."""


@transaction.atomic
def second_try(self: Any) -> int:
    Group.objects.create(name=f"try {self.request.retries}")
    if not self.request.retries:
        raise self.retry()
    return 2


@transaction.atomic
def another(self: Any) -> Any:
    add.delay(1)  # rolled back by the next line
    return self.replace(add.s(2, 3))


def with_bases(run: Any, **options: Any) -> dict[Any, Any]:
    """Tasks with the same function and other base classes, by their base classes."""
    return {
        base: shared_task(bind=True, base=base, name=f"{run.__name__}.{base}", **options)(run)
        for base in (None, LibraryTask)
    }


RETRIED = with_bases(second_try, max_retries=1, default_retry_delay=0)
REPLACED = with_bases(another)


@pytest.fixture
def app(live_app: Celery, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An application with the outbox, on a broker that answers."""
    settings.TASK_OUTBOX = True
    for name, path in sender.RESULT_BACKENDS.items():
        monkeypatch.setitem(BACKEND_ALIASES, name, path)
    monkeypatch.setattr(publishing, "_paused_until", 0.0)
    monkeypatch.setattr(publishing, "PAUSE", 0)
    monkeypatch.setattr(publishing, "RETRY_DELAY", timedelta(seconds=TIMEOUT))
    sender.install(live_app)
    return live_app


@pytest.fixture
def away(app: Celery) -> Iterator[Celery]:
    """An application whose broker and result backend are away."""
    refused = Celery("away", amqp=app.amqp_cls, task_cls=app.task_cls, set_as_current=False)
    refused.config_from_object("django.conf:settings", namespace="CELERY")
    url = f"redis://127.0.0.1:{free_port()}/0"
    refused.conf.update(
        broker_url=url,
        result_backend=url,
        broker_use_ssl=None,
        redis_backend_use_ssl=None,
        task_default_exchange_type="direct",
        broker_transport_options={},
    )
    refused.set_current()
    yield refused
    refused.close()


def back(app: Celery) -> None:
    """Have a relay of an application whose broker is back send what waits."""
    app.set_current()
    Message.objects.update(due_at=timezone.now())
    assert relay(app, seconds=TIMEOUT) is False


def queued(app: Celery) -> list[dict[str, Any]]:
    """The messages in the broker, oldest first."""
    with app.connection_for_read() as broker:
        client = broker.default_channel.client  # type: ignore[attr-defined]
        texts = client.lrange(app.conf.task_default_queue, 0, -1)
        return [json.loads(text) for text in reversed(texts)]


def ids(app: Celery) -> list[str]:
    return [message["headers"]["id"] for message in queued(app)]


@pytest.mark.django_db(transaction=True)
class TestCommit:
    def test_a_task_is_sent_after_the_commit_with_the_same_id(self, app: Celery) -> None:
        with transaction.atomic():
            sent = ping.delay()
            assert queued(app) == []
            assert Message.objects.get().task_id == sent.id
        assert ids(app) == [sent.id]
        assert not Message.objects.exists()

    def test_a_task_is_not_sent_after_a_rollback(self, app: Celery) -> None:
        with transaction.atomic():
            ping.delay()
            ping.delay_on_commit()
            transaction.set_rollback(True)
        assert queued(app) == []
        assert not Message.objects.exists()

    def test_only_the_tasks_of_a_savepoint_are_rolled_back(self, app: Celery) -> None:
        with transaction.atomic():
            first = ping.delay()
            with transaction.atomic():
                ping.delay()
                transaction.set_rollback(True)
            with transaction.atomic():
                second = ping.delay()
        assert ids(app) == [first.id, second.id]
        assert not Message.objects.exists()

    def test_a_savepoint_without_atomic_rolls_its_task_back(self, app: Celery) -> None:
        with transaction.atomic():
            savepoint = transaction.savepoint()
            ping.delay()
            transaction.savepoint_rollback(savepoint)
        assert queued(app) == []
        assert not Message.objects.exists()

    def test_a_task_after_a_savepoint_that_was_rolled_back_is_sent(self, app: Celery) -> None:
        with transaction.atomic():
            savepoint = transaction.savepoint()
            ping.delay()
            transaction.savepoint_rollback(savepoint)
            kept = ping.delay()
        with transaction.atomic():
            first = ping.delay()
            transaction.savepoint_rollback(transaction.savepoint())
        assert ids(app) == [kept.id, first.id]
        assert not Message.objects.exists()

    def test_a_task_costs_an_insert_and_a_delete(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.pipeline.outbox.batch.GRACE_PERIOD", timedelta(minutes=5))
        ping.delay()  # connected
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            ping.delay()
        table = Message._meta.db_table
        statements = [query["sql"] for query in queries if table in query["sql"]]
        assert [re.findall("INSERT|SELECT|UPDATE|DELETE", text) for text in statements] == [
            ["INSERT"],
            ["DELETE"],
        ]

    def test_a_task_that_waits_for_its_order_does_not_send_one_that_was_rolled_back(
        self, away: Celery, app: Celery
    ) -> None:
        add.apply_async((1,), headers={"outbox_key": "a"})
        app.set_current()
        with transaction.atomic():
            add.apply_async((2,), headers={"outbox_key": "a"})
            with transaction.atomic():
                ping.delay()
                transaction.set_rollback(True)
        assert queued(app) == []
        assert Message.objects.count() == 2
        relay(app, seconds=TIMEOUT)  # the second does not wait until its 10 seconds are over
        assert Message.objects.get(due_at__gt=timezone.now()).key == "a"

    def test_a_beat_whose_clock_is_ahead_does_not_send_a_new_task(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.pipeline.outbox.batch.Batch.publish", lambda *_: None)
        with transaction.atomic():
            ping.delay()
        later = timezone.now() + timedelta(hours=1)
        monkeypatch.setattr(timezone, "now", lambda: later)
        relay(app, seconds=TIMEOUT)
        # Other databases have no clock that can be used: see `publishing.after`.
        assert len(queued(app)) == (0 if connection.vendor == "postgresql" else 1)

    def test_a_task_with_an_order_needs_one_connection(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app.amqp.producer_pool, "limit", 1)
        sent: list[str] = []

        def send() -> None:
            app.set_current()  # in this thread
            sent.append(add.apply_async((1,), headers={"outbox_key": "a"}).id)
            connections.close_all()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert sent == ids(app)

    def test_delay_on_commit_is_stored_in_the_transaction(self, app: Celery) -> None:
        with transaction.atomic():
            ping.delay_on_commit()
            ping.apply_async_on_commit(countdown=100)
            assert Message.objects.count() == 2
        assert len(queued(app)) == 2

    def test_a_task_outside_of_a_transaction_is_sent_at_once(self, app: Celery) -> None:
        sent = ping.delay()
        assert ids(app) == [sent.id]
        assert not Message.objects.exists()

    def test_tasks_of_other_packages_are_sent_by_name(self, app: Celery) -> None:
        with transaction.atomic():
            sent = app.send_task("other.package.task", [1], headers={"tenant": "a"})
        (message,) = queued(app)
        assert message["headers"]["id"] == sent.id
        assert message["headers"]["tenant"] == "a"
        assert message["properties"]["correlation_id"] == sent.id

    def test_the_message_is_as_without_the_outbox(self, app: Celery, settings: Settings) -> None:
        options: Any = {"countdown": 100, "expires": 200, "task_id": "same", "priority": 0}
        with transaction.atomic():
            ping.apply_async(**options)
        settings.TASK_OUTBOX = False
        ping.apply_async(**options)
        through, direct = queued(app)
        for message in (through, direct):
            for moment in ("eta", "expires", "sent_at"):
                assert message["headers"].pop(moment)
            assert message["properties"].pop("delivery_tag")
            assert 150_000 < int(message["properties"].pop("expiration")) <= 200_000
        assert through == direct

    def test_a_worker_is_told_the_arguments_that_were_sent(self, app: Celery) -> None:
        with worker_thread(app):
            with transaction.atomic():
                sums = [
                    add.delay(1, 2),
                    group(add.s(number) for number in range(3)).apply_async(),
                    chain(add.s(1), add.s(2)).apply_async(),
                    chord([add.s(1), add.s(2)], total.s()).apply_async(),
                    chord([chain(add.s(1), add.s(2)), group(add.s(3))], total.s()).apply_async(),
                ]
            results = [it.get(timeout=TIMEOUT) for it in sums]
        assert results == [3, [0, 1, 2], 3, 3, 6]

    @pytest.mark.parametrize("base", [None, LibraryTask])
    def test_retry_and_replace_outlive_the_transaction_that_they_roll_back(
        self, app: Celery, base: Any
    ) -> None:
        with worker_thread(app):
            assert RETRIED[base].apply_async().get(timeout=TIMEOUT) == 2
            assert REPLACED[base].apply_async().get(timeout=TIMEOUT) == 5
        assert [group.name for group in Group.objects.filter(name__startswith="try")] == ["try 1"]

    def test_events_say_that_the_task_was_sent(self, app: Celery) -> None:
        seen: list[dict[str, Any]] = []
        with app.connection_for_read() as broker:
            receiver = app.events.Receiver(broker, handlers={"task-sent": seen.append})
            with receiver.consumer_context(wakeup=False) as (channel_link, _, _):
                with suppress(TimeoutError):  # this starts the subscription
                    channel_link.drain_events(timeout=0.2)
                with transaction.atomic():
                    sent = ping.delay()
                channel_link.drain_events(timeout=TIMEOUT)
        queue = app.conf.task_default_queue
        assert [(event["uuid"], event["queue"]) for event in seen] == [(sent.id, queue)]


@pytest.mark.django_db(transaction=True)
class TestBrokerAway:
    def test_the_request_does_not_fail_and_the_task_is_sent_later(self, away: Celery) -> None:
        with transaction.atomic():
            inside = ping.delay()
            workflow = chord([add.s(1), add.s(2)], total.s()).apply_async()
        outside = ping.delay()
        rows = Message.objects.order_by("pk")
        assert [rows[0].task_id, rows[3].task_id] == [inside.id, outside.id]
        assert rows.count() == 4
        assert workflow.id
        assert all("refused" in rows[row].last_error for row in (0, 3))

    def test_what_was_left_is_sent_in_order(self, app: Celery, away: Celery) -> None:
        with transaction.atomic():
            sent = [add.delay(number).id for number in range(5)]
        assert relay(away, seconds=TIMEOUT) is False
        assert Message.objects.count() == 5
        back(app)
        assert ids(app) == sent
        assert not Message.objects.exists()

    def test_a_workflow_runs_when_the_broker_is_back(self, app: Celery, away: Celery) -> None:
        with transaction.atomic():
            sums = [
                chord([add.s(1), add.s(2)], total.s()).apply_async(),
                chain(add.s(1), chord([add.s(1), group(add.s(2))], total.s())).apply_async(),
            ]
        back(app)
        with worker_thread(app):
            assert [app.AsyncResult(it.id).get(timeout=TIMEOUT) for it in sums] == [3, 5]

    def test_a_countdown_counts_from_when_the_task_was_sent(
        self, app: Celery, away: Celery
    ) -> None:
        with transaction.atomic():
            ping.apply_async(countdown=100)
        eta = timezone.now() + timedelta(seconds=100)
        back(app)
        header = queued(app)[0]["headers"]["eta"]
        assert abs(datetime.fromisoformat(header) - eta) < timedelta(seconds=TIMEOUT)

    def test_a_worker_revokes_a_task_that_has_expired_and_its_chord_fails(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as away, transaction.atomic():
            away.setattr(publishing, "is_paused", lambda: True)
            sent = chord([ping.s(), ping.s()], ping.si()).apply_async(expires=0.1)
        time.sleep(0.2)
        back(app)
        assert not Message.objects.exists()
        assert "expiration" not in queued(app)[0]["properties"]
        with worker_thread(app), pytest.raises(TaskRevokedError):
            sent.get(timeout=TIMEOUT)

    def test_without_a_database_too_the_error_is_that_of_the_broker(
        self, away: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object, **fields: object) -> None:
            raise DatabaseError("no such host")

        monkeypatch.setattr(publishing, "create", refuse)
        with pytest.raises(OperationalError, match="did not accept"):
            ping.delay()

    def test_a_process_leaves_the_messages_to_beat_after_the_broker_did_not_answer(
        self, app: Celery, away: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publishing, "PAUSE", TIMEOUT)
        ping.delay()
        app.set_current()
        with transaction.atomic():
            ping.delay()
        assert queued(app) == []
        assert Message.objects.count() == 2

    def test_directly_raises_the_error_of_the_broker(self, away: Celery) -> None:
        with directly(), pytest.raises(OperationalError, match="did not accept"):
            ping.delay()
        assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestRelay:
    def test_it_leaves_the_messages_that_their_own_process_publishes(self, app: Celery) -> None:
        with transaction.atomic():
            ping.delay()
            assert Message.objects.update(name="not committed yet") == 1
            assert relay(app) is False
            assert queued(app) == []

    def test_it_goes_on_after_a_message_that_cannot_be_sent(
        self, app: Celery, away: Celery
    ) -> None:
        with transaction.atomic():
            ping.delay(), ping.delay()
        wrong = Message.objects.order_by("pk")[0]
        wrong.record = wrong.record.replace("utf-8", "no encoding")
        wrong.save()
        back(app)
        assert len(queued(app)) == 1
        assert "no encoding" in Message.objects.get().last_error

    def test_a_key_keeps_the_order(self, app: Celery, away: Celery) -> None:
        order: Any = {"headers": {"outbox_key": "order 7"}}
        with transaction.atomic():
            first, other = add.apply_async([1], **order), add.delay(2)
        app.set_current()
        second = add.apply_async([3], **order)
        assert queued(app) == []  # the first still waits
        Message.objects.filter(task_id=second.id).update(due_at=timezone.now())
        relay(app, seconds=TIMEOUT)
        assert ids(app) == [other.id]
        back(app)
        assert ids(app) == [other.id, first.id, second.id]

    def test_it_goes_on_after_a_message_of_a_release_with_other_fields(
        self, app: Celery, away: Celery
    ) -> None:
        with transaction.atomic():
            ping.delay(), ping.delay()
        unreadable = Message.objects.order_by("pk")[0]
        unreadable.record = '{"body": "", "other": 1}'
        unreadable.due_at = timezone.now()
        unreadable.save()
        Message.objects.update(due_at=timezone.now())
        back(app)
        relay(app, seconds=TIMEOUT)
        left = Message.objects.get()
        assert (left.pk, len(queued(app))) == (unreadable.pk, 1)
        assert "other" in left.last_error
        assert left.due_at > timezone.now()

    def test_two_relays_share_the_messages(self, app: Celery, away: Celery) -> None:
        with transaction.atomic():
            sent = [add.delay(number).id for number in range(40)]
        Message.objects.update(due_at=timezone.now())

        def run() -> None:
            try:
                while relay(app):
                    pass
            finally:
                connections.close_all()

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert sorted(ids(app)) == sorted(sent)
        assert not Message.objects.exists()

    def test_it_stops_after_its_time_and_says_that_there_is_more(
        self, app: Celery, away: Celery
    ) -> None:
        with transaction.atomic():
            ping.delay(), ping.delay()
        Message.objects.update(due_at=timezone.now())
        assert relay(app, seconds=0) is True
        assert Message.objects.count() == 2

    def test_a_large_transaction_is_published_in_part(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publishing, "BATCH", 2)
        with transaction.atomic():
            sent = [add.delay(number).id for number in range(5)]
        assert ids(app) == sent[:2]
        back(app)
        assert ids(app) == sent

    def test_it_waits_while_the_database_does_not_answer(
        self, app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*args: object) -> None:
            raise DatabaseError("no such host")

        monkeypatch.setattr(publishing, "claim", refuse)
        assert relay(app) is False
        assert "The outbox cannot be read: no such host" in caplog.text


@pytest.mark.django_db
def test_callbacks_that_a_test_calls_send_what_was_not_rolled_back(
    app: Celery, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        sent = ping.delay()
    with django_capture_on_commit_callbacks(execute=True):
        savepoint = transaction.savepoint()
        ping.delay()
        transaction.savepoint_rollback(savepoint)
    assert ids(app) == [sent.id]


@pytest.mark.django_db(transaction=True)
class TestStatus:
    def test_ready_without_the_broker(self, client: Client, away: Celery) -> None:
        with transaction.atomic():
            ping.delay()
        answer = client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {"database": True, "broker": False, "outbox": True}

    def test_it_says_how_many_wait_for_how_long_and_why(self, away: Celery) -> None:
        with transaction.atomic():
            ping.delay(), ping.delay()
        Message.objects.update(created_at=timezone.now() - timedelta(minutes=5))
        part = outbox.part()
        assert part.ok is False
        assert part.words.startswith("2 waiting, the oldest for 5 min: The result backend")
        assert part.to_do

    def test_nothing_waits(self, app: Celery) -> None:
        assert (outbox.part().ok, outbox.part().words) == (True, "nothing waits")

    def test_the_page_and_the_doctor_show_it(
        self, app: Celery, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.RUNTIME_DIR = tmp_path
        monkeypatch.setattr(report, "TRIP_TIMEOUT", 0.2)
        assert "nothing waits" in render_to_string(
            "pipeline/tables.html", snapshot(with_results=False)
        )
        output = StringIO()
        with suppress(SystemExit):  # no worker runs
            call_command("doctor", stdout=output)
        assert "✓ outbox: nothing waits" in output.getvalue()

    @pytest.mark.usefixtures("site")
    def test_the_admin_lists_tasks_without_their_arguments(
        self, admin_client: Client, away: Celery
    ) -> None:
        with transaction.atomic():
            sent = add.delay(4242)
        url = reverse("admin:pipeline_outbox_message_changelist")
        page = admin_client.get(url).content.decode()
        assert sent.id in page
        assert "does not answer" in page
        row = admin_client.get(f"{url}{Message.objects.get().pk}/change/").content.decode()
        assert sent.id in row
        assert "4242" not in row
        assert admin_client.get(f"{url}add/").status_code == 403


@pytest.mark.django_db
def test_the_migration_makes_the_table_of_the_model() -> None:
    call_command("makemigrations", "pipeline_outbox", check=True, dry_run=True)
