"""Queues on RabbitMQ: their declaration, and delayed messages."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import OperationalError
from kombu.transport.native_delayed_delivery import calculate_routing_key

from apps.pipeline.broker import queues
from apps.pipeline.testing import own_queues
from config.celery import app as project_app


@pytest.fixture
def app() -> Celery:
    """An application with the settings of a project on RabbitMQ."""
    app = Celery(
        "quorum", amqp=project_app.amqp_cls, set_as_current=False, task_cls=project_app.task_cls
    )
    app.conf.update(
        broker_url="amqp://127.0.0.1:1//",
        task_default_queue_type="quorum",
        task_create_missing_queue_type="quorum",
        timezone="Asia/Kolkata",
    )
    return app


def test_queues_of_a_test_do_not_have_the_exchange_of_the_project() -> None:
    """It can have another type, and then no worker of a test could start."""
    juice, news = Queue("juice"), Broadcast("news")
    project_app.amqp.Queues([juice, news])
    assert juice.exchange == project_app.amqp.default_exchange
    own = own_queues([juice, news])
    assert not own["juice"].exchange
    assert own[news.name].exchange == news.exchange


@pytest.mark.parametrize("name", ["celery", "a queue of a route"])
def test_no_queue_drops_redelivered_messages(app: Celery, name: str) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": queues.DELIVERY_LIMIT}
    assert app.amqp.queues[name].queue_arguments == arguments


@pytest.mark.parametrize(
    "queue", [Broadcast("news"), Queue("reply", exclusive=True), Queue("once", auto_delete=True)]
)
def test_a_queue_that_rabbitmq_deletes_is_no_quorum_queue(app: Celery, queue: Queue) -> None:
    """RabbitMQ refuses it, and the worker could not start."""
    app.conf.task_queues = [queue]
    assert not app.amqp.queues[queue.name].queue_arguments


@pytest.mark.parametrize(
    ("given", "setting", "arguments"),
    [
        ({"x-max-priority": 10}, None, {"x-max-priority": 10}),
        ({"x-max-priority": 10}, 5, {"x-max-priority": 10}),
        (None, 5, {"x-max-priority": 5}),
    ],
)
def test_a_queue_with_priorities_is_no_quorum_queue(
    app: Celery, given: Any, setting: int | None, arguments: Any
) -> None:
    """RabbitMQ refuses it, and the worker could not start."""
    app.conf.task_queues = [Queue("mail", queue_arguments=given)]
    app.conf.task_queue_max_priority = setting
    assert app.amqp.queues["mail"].queue_arguments == arguments
    for name in ("celery", "a queue of a route"):
        is_quorum = "x-queue-type" in (app.amqp.queues[name].queue_arguments or {})
        assert is_quorum is queues.is_quorum(app) is (setting is None)


def test_the_error_of_a_broker_with_several_urls_names_them(app: Celery) -> None:
    urls = ["amqp://ada:secret@127.0.0.1:1//", "amqp://127.0.0.1:2//"]
    app.conf.update(broker_url=urls, broker_transport_options={"max_retries": 0})
    assert queues.is_quorum(app)
    named = r"amqp://ada:\*\*@127.0.0.1:1//;amqp://127.0.0.1:2// did not accept shop.pay"

    @app.task(name="shop.pay")
    def pay() -> None: ...

    with pytest.raises(OperationalError, match=named):
        pay.delay()


def test_every_consumer_of_a_broadcast_has_the_same_routing_key(app: Celery) -> None:
    """On Redis it is a part of the channel on which workers subscribe."""
    queue = Broadcast("news")
    app.conf.update(task_queues=[queue], task_create_missing_queue_type=None)
    assert app.amqp.queues[queue.name].routing_key in ("", None, app.conf.task_default_routing_key)


@pytest.mark.parametrize(("kind", "is_delayed"), [("topic", True), ("direct", False)])
def test_rabbitmq_delays_no_message_of_a_queue_with_a_direct_exchange(
    app: Celery, kind: str, is_delayed: bool
) -> None:
    app.conf.task_queues = [Queue("orders", Exchange("orders", type=kind))]
    assert queues.is_delayed_by_broker(app, {"routing_key": "orders"}) is is_delayed


def test_a_declared_delivery_limit_is_kept(app: Celery) -> None:
    own = {"x-queue-type": "quorum", "x-delivery-limit": 7}
    app.conf.task_queues = [Queue("mail", queue_arguments=own)]
    assert app.amqp.queues["mail"].queue_arguments == own


def test_declared_queues_have_different_routing_keys(app: Celery) -> None:
    app.conf.task_queues = [Queue("mail"), Queue("film")]
    keys = [queue.routing_key for queue in app.amqp.queues.values()]
    assert keys == ["celery", "mail", "film"]


@pytest.mark.parametrize("queues", [[Queue("mail")], {"mail": {}}])
def test_a_worker_consumes_the_default_queue_and_all_declared_queues(
    app: Celery, queues: Any
) -> None:
    app.conf.task_queues = queues
    assert list(app.amqp.queues.consume_from) == ["celery", "mail"]
    for queue in app.amqp.queues.values():
        assert (queue.queue_arguments or {})["x-queue-type"] == "quorum"


@pytest.mark.parametrize(
    ("routing_key", "queue"),
    [
        ("celery", "celery"),
        (calculate_routing_key(10, "celery"), "celery"),
        ("orders.created", None),
        (None, None),
    ],
)
def test_a_retry_goes_to_the_queue_of_the_task(
    app: Celery, routing_key: str | None, queue: str | None
) -> None:
    assert queues.queue_of(app, {"exchange": "any", "routing_key": routing_key}) == queue


class TestWholeSeconds:
    AN_HOUR = range(3600 - 60, 3600 + 1)  # the test itself takes some of it

    @pytest.mark.parametrize(
        ("countdown", "seconds"), [(None, None), (0, None), (-1, None), (0.2, 1), (1, 1), (1.5, 2)]
    )
    def test_of_a_countdown(
        self, app: Celery, countdown: float | None, seconds: int | None
    ) -> None:
        assert queues.whole_seconds(app, countdown, None) == seconds

    @pytest.mark.parametrize("form", [lambda moment: moment, datetime.isoformat])
    def test_of_an_eta(self, app: Celery, form: Any) -> None:
        moment = datetime.now(UTC) + timedelta(hours=1)
        assert queues.whole_seconds(app, None, form(moment)) in self.AN_HOUR
        assert queues.whole_seconds(app, None, form(moment - timedelta(hours=2))) is None

    def test_of_an_eta_in_the_projects_time_zone(self, app: Celery) -> None:
        in_kolkata = (datetime.now(UTC) + timedelta(hours=6.5)).replace(tzinfo=None)
        assert queues.whole_seconds(app, None, in_kolkata) in self.AN_HOUR


def test_a_delayed_task_of_the_default_queue_does_not_reach_a_fanout_exchange(app: Celery) -> None:
    """Neither does a process that sends it declare a queue there, which nobody would consume."""
    app.conf.update(task_create_missing_queue_type="quorum")
    app.conf.task_queues = [Broadcast("news"), Queue("fan", Exchange("shop", type="fanout"))]
    bound = [app.amqp.queues[name] for name in app.amqp.queues if name != "celery"]
    assert [queue.routing_key for queue in bound] == ["news", "shop"]
    channel = Mock(is_open=True)
    connection = Mock(default_channel=channel)
    queues.prepare_delay(connection, bound)
    keys = {
        (call.kwargs["destination"], call.kwargs["routing_key"])
        for call in channel.exchange_bind.call_args_list
    }
    assert keys == {("news", "#.news"), ("shop", "#.shop")}
    assert not channel.queue_declare.called


def test_a_queue_is_bound_before_the_first_delayed_message(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(name="shop.delivery")
    def order() -> None: ...

    made: list[list[str]] = []
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        queues, "prepare_delay", lambda _, new: made.append([queue.name for queue in new])
    )
    monkeypatch.setattr("celery.app.base.detect_quorum_queues", lambda *_: (True, ""))
    monkeypatch.setattr(
        "kombu.messaging.Producer.publish", lambda *_, **options: sent.append(options)
    )
    app.conf.task_default_exchange_type = "topic"
    app.conf.task_create_missing_queue_exchange_type = "topic"
    order.apply_async()
    assert made == []
    for queue in ("celery", "mail", "mail"):
        order.apply_async(countdown=0.5, queue=queue)
    assert made == [["celery"], ["mail"]]
    keys = [options["routing_key"] for options in sent]
    assert keys == [
        "celery",
        *(calculate_routing_key(1, name) for name in ("celery", "mail", "mail")),
    ]
