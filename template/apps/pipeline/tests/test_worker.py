import time
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
import redis
from celery import Celery
from celery.worker import state
from kombu import Queue
from kombu.exceptions import OperationalError

from apps.pipeline import transport, worker
from apps.pipeline.tasks import ping
from apps.pipeline.worker import Heartbeat, waiting_messages

PATIENCE = 60  # seconds to wait for what takes one or two


def parent_of(app: Celery) -> SimpleNamespace:
    """As much of a worker's consumer as the heartbeat looks at."""
    return SimpleNamespace(
        app=app,
        pool=SimpleNamespace(num_processes=2),
        task_consumer=SimpleNamespace(queues=[Queue("celery")]),
    )


@pytest.fixture
def away(live_app: Celery) -> Celery:
    """An application whose broker and result backend refuse the connection."""
    app = Celery("away", set_as_current=False, task_cls=live_app.task_cls)
    app.config_from_object("config.settings.base", namespace="CELERY")
    app.conf.update(
        broker_url="redis://:secret@127.0.0.1:1/0",
        broker_use_ssl=None,
        redis_backend_use_ssl=None,
        result_backend="redis://:secret@127.0.0.1:1/0",
    )
    return app


@pytest.fixture
def step(live_app: Celery) -> Heartbeat:
    return Heartbeat(parent_of(live_app))


class TestWaitingMessages:
    def test_counts_what_nobody_took(self, live_app: Celery) -> None:
        assert waiting_messages(parent_of(live_app)) == 0
        ping.delay()
        ping.delay()
        assert waiting_messages(parent_of(live_app)) == 2

    def test_is_unknown_where_the_broker_is_away(self, away: Celery) -> None:
        assert waiting_messages(parent_of(away)) is None


class TestConsumes:
    def test_an_idle_worker_does(self, step: Heartbeat, live_app: Celery) -> None:
        step.received -= 1000
        assert step._consumes(parent_of(live_app))

    def test_one_whose_loop_stands_still_does_not(self, step: Heartbeat, live_app: Celery) -> None:
        step.turned -= worker.STUCK_AFTER
        assert not step._consumes(parent_of(live_app))

    def test_one_with_room_that_takes_nothing_of_what_waits_does_not(
        self, step: Heartbeat, live_app: Celery
    ) -> None:
        ping.delay()
        assert step._consumes(parent_of(live_app))
        step.received -= worker.STUCK_AFTER
        assert not step._consumes(parent_of(live_app))

    def test_one_without_room_does(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ping.delay()
        step.received -= worker.STUCK_AFTER
        monkeypatch.setattr(state, "reserved_requests", {"one", "two"})
        assert step._consumes(parent_of(live_app))

    def test_one_whose_broker_is_away_is_not_to_blame(self, step: Heartbeat, away: Celery) -> None:
        step.turned -= worker.STUCK_AFTER
        assert step._consumes(parent_of(away))


class TestUnknownTask:
    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker, "UNKNOWN_PAUSE", 0.05)
        monkeypatch.setattr(worker, "UNKNOWN_OFFERS", 3)

    def kept(self, app: Celery) -> Any:
        with app.connection_for_read() as link:
            queue = link.SimpleQueue(worker.UNKNOWN_QUEUE)
            message = queue.get(timeout=PATIENCE)
            message.ack()
            return message

    def test_it_is_offered_some_times_and_then_kept_whole(self, live_worker: Celery) -> None:
        live_worker.send_task("shop.tasks.not_here_yet", args=["order", 7], task_id="the-id")
        message = self.kept(live_worker)
        assert message.headers["task"] == "shop.tasks.not_here_yet"
        assert message.headers["id"] == "the-id"
        assert message.headers["offers"] == 3
        assert message.payload[0] == ["order", 7]

    def test_it_does_not_hold_up_those_that_are_known(self, live_worker: Celery) -> None:
        for _ in range(5):
            live_worker.send_task("shop.tasks.not_here_yet")
        assert ping.delay().get(timeout=PATIENCE) == "pong"
        for _ in range(5):
            self.kept(live_worker)


def test_a_worker_is_more_patient_than_a_web_request(live_app: Celery) -> None:
    live_app.conf.broker_transport_options = {"answer_timeout": 2, "visibility_timeout": 7}
    worker.Patience(SimpleNamespace(app=live_app))
    assert live_app.conf.broker_transport_options["answer_timeout"] == 30
    assert live_app.conf.broker_transport_options["visibility_timeout"] == 7
    assert live_app.conf.broker_transport_options["max_retries"] == 30
    assert live_app.conf.redis_socket_timeout == 30


def test_a_broker_that_is_away_is_named_within_three_seconds(away: Celery) -> None:
    @away.task(name="shop.order")
    def order(number: str) -> str:
        return number

    words = r"^redis://:\*\*@127\.0\.0\.1:1/0 does not take shop\.order: .*refused"
    started = time.monotonic()
    with pytest.raises(OperationalError, match=words) as raised:
        order.delay("lost")
    assert time.monotonic() - started < 3
    assert "secret" not in str(raised.value)


def test_a_result_backend_that_is_away_is_named_beside_the_broker(
    away: Celery, broker_url: str
) -> None:
    @away.task(name="shop.order.known")
    def order(number: str) -> str:
        return number

    away.conf.update(broker_url=broker_url)
    words = rf"^{broker_url} with results at redis://:\*\*@127\.0\.0\.1:1/0 does not take shop"
    with pytest.raises(OperationalError, match=words):
        order.delay("lost")
    with redis.Redis.from_url(broker_url) as broker:
        assert not broker.exists("celery")


class Request:
    """As much of Celery's as the consumer's end looks at."""

    def __init__(self, message: Any) -> None:
        self.id = message.delivery_tag
        self.message = message
        self._eta_timer_entry = None


@pytest.mark.parametrize("waits_in", ["reserved_requests", "scheduled_requests"])
def test_what_has_not_begun_when_the_connection_is_lost_goes_back_to_its_queue(
    live_app: Celery, monkeypatch: pytest.MonkeyPatch, waits_in: str
) -> None:
    monkeypatch.setattr(transport.QoS, "kept", {})
    for name in ("reserved_requests", "scheduled_requests", "active_requests"):
        requests: WeakSet[Request] = WeakSet()
        monkeypatch.setattr(f"celery.worker.state.{name}", requests)
        monkeypatch.setattr(f"celery.worker.consumer.consumer.{name}", requests)
    for _ in range(2):
        ping.delay()
    queue = live_app.amqp.queues["celery"]
    with live_app.connection_for_read() as link:
        waits, runs = (Request(queue(link.default_channel).get()) for _ in range(2))
        getattr(state, waits_in).add(waits)
        state.reserved_requests.add(runs)
        state.active_requests.add(runs)
        consumer: Any = object.__new__(worker.Consumer)
        consumer.__dict__ |= {"controller": None, "task_buckets": {}, "timer": None, "pool": None}
        consumer.on_close()
        with live_app.connection_for_read() as another:
            bound: Any = queue(another.default_channel)
            assert bound.get().headers["id"] == waits.message.headers["id"]
            assert bound.get() is None
