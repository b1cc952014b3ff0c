import faulthandler
import gc
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from weakref import WeakSet, ref

import pytest
from billiard.connection import Connection as BilliardConnection
from celery import Celery
from celery.app.control import Inspect
from celery.bootsteps import CLOSE, RUN  # type: ignore[attr-defined]
from celery.concurrency import asynpool, prefork, solo
from celery.signals import celeryd_after_setup, worker_shutting_down
from celery.worker import state
from celery.worker.consumer.mingle import Mingle
from kombu import Connection, Exchange, Producer, Queue
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer
from kombu.common import QoS
from kombu.exceptions import OperationalError
from kombu.utils.limits import TokenBucket
from pytest_django import Settings
from redis import Redis

from apps.pipeline.broker import consumers as recorded
from apps.pipeline.broker import queues
from apps.pipeline.broker.queues import UNKNOWN_QUEUE
from apps.pipeline.broker.redis import acks, unacked
from apps.pipeline.broker.redis.server import has_subscribers
from apps.pipeline.liveness import heartbeat
from apps.pipeline.tasks import ping
from apps.pipeline.testing import worker_thread
from apps.pipeline.tests.waiting import wait_until
from apps.pipeline.worker import answer, unusable
from apps.pipeline.worker import consumer as consumers
from apps.pipeline.worker.heartbeat import TIMEOUTS, Heartbeat, gives_all, waiting_messages
from apps.pipeline.worker.request import has_lost_process, is_in_process
from apps.pipeline.worker.results import PartialResults
from apps.pipeline.worker.shutdown import SoftShutdown
from apps.pipeline.worker.timeouts import WorkerTimeouts
from apps.pipeline.worker.writers import KnownWriters

WAIT_TIMEOUT = 60  # seconds
STUCK_AFTER = 600  # seconds, so that a pause of the machine does not count
REFUSED_WITHIN = 15  # seconds; a web process needs one on a machine that is not busy, a worker 30


def test_a_worker_shares_memory_with_its_processes() -> None:
    gc.unfreeze()
    celeryd_after_setup.send(sender="one@here", instance=None, conf=None)  # before it is forked
    try:
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def parent_of(app: Celery) -> SimpleNamespace:
    """A consumer with the attributes that the heartbeat uses."""
    return SimpleNamespace(
        app=app,
        controller=SimpleNamespace(blueprint=SimpleNamespace(state=RUN)),
        hostname="one@here",
        pool=SimpleNamespace(num_processes=2),
        task_consumer=SimpleNamespace(queues=[Queue(app.conf.task_default_queue)]),
        is_stopping=False,
        qos=QoS(print, 2),
        initial_prefetch_count=2,
        task_buckets={"bakery.bake": TokenBucket(1), "bakery.sell": None},
    )


@pytest.fixture
def app_without_servers(live_app: Celery) -> Celery:
    """An application whose broker and result backend refuse the connection."""
    app = Celery("app_without_servers", set_as_current=False, task_cls=live_app.task_cls)
    app.config_from_object("config.settings.base", namespace="CELERY")
    app.conf.update(
        broker_url="redis://:secret@127.0.0.1:1/0",
        broker_use_ssl=None,
        redis_backend_use_ssl=None,
        result_backend="redis://:secret@127.0.0.1:1/0",
    )
    return app


@pytest.fixture
def step(live_app: Celery, monkeypatch: pytest.MonkeyPatch) -> Heartbeat:
    monkeypatch.setattr("apps.pipeline.worker.heartbeat.STUCK_AFTER", STUCK_AFTER)
    monkeypatch.setattr(state, "active_requests", set())
    return Heartbeat(parent_of(live_app))


class TestWaitingMessages:
    def test_counts_messages_that_wait(self, live_app: Celery) -> None:
        assert waiting_messages(parent_of(live_app)) == 0
        ping.delay()
        ping.delay()
        assert waiting_messages(parent_of(live_app)) == 2

    def test_is_unknown_if_the_broker_does_not_answer(self, app_without_servers: Celery) -> None:
        assert waiting_messages(parent_of(app_without_servers)) is None

    def test_a_frozen_broker_is_unknown_before_the_watchdog_ends_the_worker(
        self, app_without_servers: Celery
    ) -> None:
        WorkerTimeouts(SimpleNamespace(app=app_without_servers))
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
            app_without_servers.conf.update(broker_url=url)
            began = time.monotonic()
            assert waiting_messages(parent_of(app_without_servers)) is None
            assert time.monotonic() - began < 45

    def test_a_frozen_sqs_is_unknown_before_the_watchdog_ends_the_worker(
        self, app_without_servers: Celery
    ) -> None:
        app_without_servers.conf.broker_transport_options = {"client-config": {"read_timeout": 1}}
        WorkerTimeouts(SimpleNamespace(app=app_without_servers))
        options = app_without_servers.conf.broker_transport_options
        for attempts, limit, config in (
            (1, 31, options["client-config"]),  # a request of the main thread, as on other brokers
            (2, 45, TIMEOUTS["client-config"]),
        ):
            one = max(config["connect_timeout"], config["read_timeout"])
            assert attempts * config["retries"]["total_max_attempts"] * one < limit


class TestConsumes:
    def test_an_idle_worker_consumes(self, step: Heartbeat, live_app: Celery) -> None:
        step.received_at -= 1000
        assert step._consumes(parent_of(live_app))

    def test_a_worker_that_stops_waits_for_its_last_tasks(
        self, step: Heartbeat, live_app: Celery
    ) -> None:
        parent = parent_of(live_app)
        step.loop_ran_at -= 1000
        assert not step._consumes(parent)
        parent.controller.blueprint.state = CLOSE
        assert step._consumes(parent)

    def test_a_worker_whose_event_loop_hangs_does_not_consume(
        self, step: Heartbeat, live_app: Celery
    ) -> None:
        step.loop_ran_at -= STUCK_AFTER
        assert not step._consumes(parent_of(live_app))

    def test_a_worker_that_runs_a_task_in_its_only_thread_consumes(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step.loop_ran_at -= 1000
        parent = parent_of(live_app)
        parent.pool = solo.TaskPool()
        assert not step._consumes(parent)
        monkeypatch.setattr(state, "active_requests", {"one"})
        assert step._consumes(parent)
        parent.pool = parent_of(live_app).pool
        assert not step._consumes(parent)

    def test_a_free_worker_that_takes_no_waiting_message_does_not_consume(
        self, step: Heartbeat, live_app: Celery
    ) -> None:
        ping.delay()
        assert step._consumes(parent_of(live_app))
        step.received_at -= STUCK_AFTER
        assert not step._consumes(parent_of(live_app))

    def test_a_busy_worker_consumes(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ping.delay()
        step.received_at -= STUCK_AFTER
        monkeypatch.setattr(state, "reserved_requests", {"one", "two"})
        assert step._consumes(parent_of(live_app))

    def test_a_worker_that_may_not_take_messages_consumes(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ping.delay()
        step.received_at -= STUCK_AFTER
        limited, stopping, full = (parent_of(live_app) for _ in range(3))
        limited.task_buckets["bakery.bake"].add(("request", 1))
        assert step._consumes(limited)
        step.received_at -= STUCK_AFTER
        stopping.is_stopping = True
        assert step._consumes(stopping)
        step.received_at -= STUCK_AFTER
        monkeypatch.setitem(live_app.conf, "worker_eta_task_limit", 2)
        monkeypatch.setattr(state, "scheduled_requests", {"one", "two"})
        assert step._consumes(full)
        step.received_at -= STUCK_AFTER
        monkeypatch.setattr(state, "scheduled_requests", {"one"})
        assert not step._consumes(full)

    def test_a_worker_at_its_prefetch_limit_consumes(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`pool_grow` adds a process. With quorum queues RabbitMQ's limit stays as it was."""
        ping.delay()
        monkeypatch.setattr(state, "reserved_requests", {"one", "two"})
        parent = parent_of(live_app)
        parent.timer, parent.pool.num_processes = Timer(), 3
        parent.qos.increment_eventually()
        step.thread = threading.current_thread()  # so that `start` starts none
        for driver_type, qos_global, consumes in (
            ("amqp", False, True),
            ("amqp", True, False),
            ("redis", False, False),
        ):
            transport = SimpleNamespace(driver_type=driver_type)
            parent.connection, parent.qos_global = SimpleNamespace(transport=transport), qos_global
            step.start(parent)
            step.received_at -= STUCK_AFTER
            assert step._consumes(parent) is consumes

    @pytest.mark.parametrize(
        "queue",
        [Queue("bread.fifo"), Queue("bread", queue_arguments={"x-single-active-consumer": True})],
    )
    def test_messages_that_may_wait_for_another_worker_do_not_count(self, queue: Queue) -> None:
        assert not gives_all(queue)
        assert gives_all(Queue("bread"))

    def test_messages_that_are_discarded_count_as_received(
        self, step: Heartbeat, live_app: Celery
    ) -> None:
        parent = parent_of(live_app)
        of_parent = Heartbeat(parent)
        ping.delay()
        of_parent.received_at -= STUCK_AFTER
        parent.on_received()
        assert of_parent._consumes(parent)

    def test_the_thread_survives_errors(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        errors = [OSError("no space left on device"), OSError("throttled")]

        def fail(parent: Any) -> None:
            error = errors.pop()
            if not errors:
                step.ended.set()
            raise error

        monkeypatch.setattr(step, "_beat_if_consuming", fail)
        monkeypatch.setattr("apps.pipeline.liveness.heartbeat.INTERVAL", 0.01)
        step._watch(parent_of(live_app))
        assert errors == []

    def test_the_heartbeat_continues_and_logs_no_error_while_the_broker_does_not_answer(
        self,
        step: Heartbeat,
        app_without_servers: Celery,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        beats: list[str] = []

        def beat(*args: Any, **kwargs: Any) -> None:
            beats.append("beat")
            step.ended.set()

        monkeypatch.setattr("apps.pipeline.liveness.heartbeat.write", beat)
        monkeypatch.setattr("apps.pipeline.liveness.heartbeat.INTERVAL", 0.01)
        step._watch(parent_of(app_without_servers))
        assert (beats, caplog.text) == (["beat"], "")

    def test_a_worker_without_a_broker_counts_as_consuming(
        self, step: Heartbeat, app_without_servers: Celery
    ) -> None:
        step.loop_ran_at -= STUCK_AFTER
        assert step._consumes(parent_of(app_without_servers))


class TestShutdown:
    """The thread must not write the heartbeat again after the worker has deleted it."""

    @pytest.fixture(autouse=True)
    def directory(self, settings: Settings, tmp_path: Path) -> Path:
        settings.RUNTIME_DIR = tmp_path
        return tmp_path

    def test_a_worker_that_stops_during_a_check_writes_nothing(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch, directory: Path
    ) -> None:
        parent = parent_of(live_app)

        def stop_and_consume(_parent: Any) -> bool:
            step.shutdown(parent)
            return True

        monkeypatch.setattr(step, "_consumes", stop_and_consume)
        step._beat_if_consuming(parent)
        assert [*directory.iterdir()] == []
        with live_app.connection_for_read() as connection:
            assert recorded.by_queue(connection) == {}

    def test_what_a_thread_is_writing_is_deleted_after_that(
        self, step: Heartbeat, live_app: Celery, monkeypatch: pytest.MonkeyPatch, directory: Path
    ) -> None:
        parent, writes, write = parent_of(live_app), threading.Event(), heartbeat.write

        def write_slowly(*args: Any, **options: Any) -> None:
            writes.set()
            time.sleep(0.3)
            write(*args, **options)

        monkeypatch.setattr(heartbeat, "write", write_slowly)
        step.thread = threading.Thread(target=step._watch, args=(parent,), daemon=True)
        step.thread.start()
        assert writes.wait(WAIT_TIMEOUT)
        step.shutdown(parent)
        step.thread.join(WAIT_TIMEOUT)
        assert [*directory.iterdir()] == []


class TestUnknownTask:
    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unusable, "UNKNOWN_PAUSE", 0.05)
        monkeypatch.setattr(unusable, "UNKNOWN_OFFERS", 3)
        monkeypatch.setattr(consumers.Consumer, "_keep", lambda *_: False)  # see test_failed.py

    def kept(self, app: Celery) -> Any:
        with app.connection_for_read() as connection:
            queue = connection.SimpleQueue(UNKNOWN_QUEUE)
            message = queue.get(timeout=WAIT_TIMEOUT)
            message.ack()
            return message

    def test_its_message_is_returned_some_times_and_then_kept(self, live_worker: Celery) -> None:
        live_worker.send_task("shop.tasks.not_here_yet", args=["order", 7], task_id="the-id")
        message = self.kept(live_worker)
        assert message.headers["task"] == "shop.tasks.not_here_yet"
        assert message.headers["id"] == "the-id"
        assert message.headers["offers"] == 3
        assert message.payload[0] == ["order", 7]

    def test_one_without_an_id_is_kept_too(
        self, live_worker: Celery, caplog: pytest.LogCaptureFixture
    ) -> None:
        with live_worker.producer_or_acquire() as producer:
            queue = live_worker.conf.task_default_queue
            producer.publish("[[], {}, {}]", headers={"task": "shop.gone"}, routing_key=queue)
        assert self.kept(live_worker).headers["task"] == "shop.gone"
        assert ping.delay().get(timeout=WAIT_TIMEOUT) == "pong"  # the worker continues
        assert "Connection to broker lost" not in caplog.text

    def test_a_compressed_one_can_be_read_when_it_returns(self, live_worker: Celery) -> None:
        live_worker.send_task("shop.tasks.not_here_yet", args=["order", 7], compression="gzip")
        assert self.kept(live_worker).payload[0] == ["order", 7]

    @pytest.mark.parametrize("broker_delays", [True, False])
    @pytest.mark.parametrize("last", [True, False])
    def test_its_message_returns_if_the_broker_does_not_accept_it_again(
        self, live_app: Celery, monkeypatch: pytest.MonkeyPatch, broker_delays: bool, last: bool
    ) -> None:
        ping.delay()
        queue: Any = live_app.amqp.queues[live_app.conf.task_default_queue]
        with (
            live_app.connection_for_read() as connection,
            live_app.connection_for_read() as another,
        ):
            message = queue(connection.default_channel).get()
            message.headers["offers"] = unusable.UNKNOWN_OFFERS - 1 if last else 0
            consumer = consumer_of(live_app, connection)
            self.refuse(consumer, message, monkeypatch, broker_delays)
            assert consumer.qos.value == 2
            returned = queue(another.default_channel).get()
            assert returned.headers["id"] == message.headers["id"]

    @pytest.mark.parametrize("broker_delays", [True, False])
    def test_the_worker_continues_if_the_connection_is_lost_then(
        self, live_app: Celery, monkeypatch: pytest.MonkeyPatch, broker_delays: bool
    ) -> None:
        ping.delay()
        queue: Any = live_app.amqp.queues[live_app.conf.task_default_queue]
        monkeypatch.setattr(unacked, "to_return", {})
        with live_app.connection_for_read() as connection:
            message = queue(connection.default_channel).get()
            monkeypatch.setattr(message, "requeue", Mock(side_effect=ConnectionResetError))
            consumer = consumer_of(live_app, connection)
            self.refuse(consumer, message, monkeypatch, broker_delays)
            assert consumer.qos.value == 2
            assert [*unacked.to_return] == [message.delivery_tag]

    def test_one_that_was_sent_to_all_workers_is_not_sent_again(
        self, live_app: Celery, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Else it would reach workers that have run it, or the default queue."""
        news = Exchange("news", type="fanout")
        live_app.amqp.queues.add(Queue("news.of.this.worker", news))
        with live_app.connection_for_read() as connection:
            consumer = consumer_of(live_app, connection)
            info = {"exchange": "news", "routing_key": live_app.conf.task_default_queue}
            message = Mock(headers={"task": "shop.tell"}, delivery_info=info)
            consumer.on_unknown_task(None, message, KeyError())
        message.ack_log_error.assert_called_once()
        assert not consumer.pauses
        assert "shop.tell" in caplog.text

    def refuse(
        self, consumer: Any, message: Any, monkeypatch: pytest.MonkeyPatch, broker_delays: bool
    ) -> None:
        """Let the consumer handle the message while the broker accepts nothing."""
        monkeypatch.setattr(queues, "is_delayed_by_broker", lambda *_: broker_delays)
        monkeypatch.setattr(unusable, "UNKNOWN_PAUSE", 10)  # RabbitMQ delays by whole seconds
        monkeypatch.setattr(Producer, "publish", Mock(side_effect=OperationalError("full")))
        consumer.on_unknown_task(None, message, KeyError())
        for pause, _ in [*consumer.pauses]:
            pause()

    def test_it_does_not_block_known_tasks(self, live_worker: Celery) -> None:
        for _ in range(5):
            live_worker.send_task("shop.tasks.not_here_yet")
        assert ping.delay().get(timeout=WAIT_TIMEOUT) == "pong"
        for _ in range(5):
            self.kept(live_worker)


def test_a_message_that_fails_after_a_process_was_reserved_releases_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handle(message: Any) -> None:
        state.task_reserved(Mock(message=message))
        raise TypeError

    message = Mock(headers={"stamped_headers": 1}, acknowledged=False)
    handling = Mock(return_value=handle)
    monkeypatch.setattr(unusable.UnusableMixin, "create_task_handler", handling, raising=False)
    consumer: Any = object.__new__(consumers.Consumer)
    consumer.__dict__ |= {"controller": Mock(), "on_invalid_task": Mock(), "on_received": Mock()}
    consumer.create_task_handler()(message)
    consumer.on_invalid_task.assert_called_once()
    consumer.controller._quick_release.assert_called_once()


def consumer_of(app: Celery, connection: Any) -> Any:
    """A consumer that is not started, with the attributes that unknown tasks need."""
    consumer: Any = object.__new__(consumers.Consumer)
    consumer.__dict__ |= {"app": app, "timer": Timer(), "pauses": [], "qos": QoS(print, 2)}
    consumer.__dict__ |= {"connection_errors": connection.connection_errors}
    return consumer


def test_the_process_of_a_solo_worker_counts_once(
    live_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "memory", sorted)
    parent = SimpleNamespace(pool=solo.TaskPool(), qos=QoS(print, 2))
    told = answer.describe_worker(SimpleNamespace(app=live_app, consumer=parent))
    assert told["memory"] == [os.getpid()]


def test_a_worker_has_longer_timeouts_than_a_web_process(live_app: Celery) -> None:
    live_app.conf.broker_transport_options = {"answer_timeout": 2, "visibility_timeout": 7}
    WorkerTimeouts(SimpleNamespace(app=live_app))
    assert live_app.conf.broker_transport_options["answer_timeout"] == 30
    assert live_app.conf.broker_transport_options["visibility_timeout"] == 7
    assert live_app.conf.broker_transport_options["max_retries"] == 30
    assert live_app.conf.redis_socket_timeout == 30


def test_the_error_names_the_broker_soon(app_without_servers: Celery) -> None:
    @app_without_servers.task(name="shop.order")
    def order(number: str) -> str:
        return number

    message = r"^redis://:\*\*@127\.0\.0\.1:1/0 did not accept shop\.order: .*refused"
    started = time.monotonic()
    with pytest.raises(OperationalError, match=message) as raised:
        order.delay("lost")
    assert time.monotonic() - started < REFUSED_WITHIN
    assert "secret" not in str(raised.value)


def test_the_error_names_the_result_backend_too(
    app_without_servers: Celery, broker_url: str
) -> None:
    @app_without_servers.task(name="shop.order.known")
    def order(number: str) -> str:
        return number

    app_without_servers.conf.update(broker_url=broker_url)
    message = rf"^{broker_url} with results at redis://:\*\*@127\.0\.0\.1:1/0 did not accept shop"
    with pytest.raises(OperationalError, match=message):
        order.delay("lost")
    with Redis.from_url(broker_url) as broker:
        assert not broker.exists("celery")


class Request:
    """A request with the attributes that `Consumer.on_close` uses."""

    def __init__(self, message: Any) -> None:
        self.id = message.delivery_tag
        self.message = message
        self._eta_timer_entry = self._apply_result = None


@pytest.mark.parametrize("waits_in", ["reserved_requests", "scheduled_requests", "task_buckets"])
def test_unstarted_tasks_return_to_the_queue_when_the_connection_is_lost(
    live_app: Celery, monkeypatch: pytest.MonkeyPatch, waits_in: str
) -> None:
    monkeypatch.setattr(unacked, "to_return", {})
    for name in ("reserved_requests", "scheduled_requests", "active_requests"):
        requests: WeakSet[Request] = WeakSet()
        monkeypatch.setattr(f"celery.worker.state.{name}", requests)
        monkeypatch.setattr(f"celery.worker.consumer.consumer.{name}", requests)
    for _ in range(3):
        ping.delay()
    queue = live_app.amqp.queues[live_app.conf.task_default_queue]
    with live_app.connection_for_read() as connection:
        waits, runs, paused = (Request(queue(connection.default_channel).get()) for _ in range(3))
        limited = TokenBucket(1)
        buckets = {"with a limit": limited, "without": None}
        if waits_in == "task_buckets":
            limited.add((waits, 1))
        else:
            getattr(state, waits_in).add(waits)
        state.reserved_requests.add(runs)
        state.active_requests.add(runs)
        consumer: Any = object.__new__(consumers.Consumer)
        timer = Timer()
        pause = timer.call_after(1000, print, (paused.message, 1))
        consumer.__dict__ |= {"controller": None, "task_buckets": buckets, "timer": timer}
        consumer.__dict__ |= {"pool": object.__new__(prefork.TaskPool)}
        consumer.pauses = [(pause, paused.message)]
        consumer.on_close()
        assert pause.canceled
        with live_app.connection_for_read() as another:
            bound: Any = queue(another.default_channel)
            ids = {bound.get().headers["id"] for _ in range(2)}
            assert ids == {one.message.headers["id"] for one in (waits, paused)}
            assert bound.get() is None


class Closing:
    """A consumer that is not started, whose connection is lost."""

    def __init__(self, app: Celery, pool: Any) -> None:
        self.consumer: Any = object.__new__(consumers.Consumer)
        self.consumer.__dict__ |= {"app": app, "controller": None, "task_buckets": {}}
        self.consumer.__dict__ |= {"timer": Timer(), "pauses": [], "pool": pool}


@pytest.fixture
def waiting() -> Iterator[Callable[..., Any]]:
    """A function that adds a request, as if the pool had its task."""
    requests: list[Request] = []

    def add(message: Any) -> Request:
        requests.append(Request(message))
        state.reserved_requests.add(requests[-1])
        return requests[-1]

    yield add
    for request in requests:
        state.task_ready(request)


def test_a_task_that_ends_while_the_connection_is_closed_does_not_come_back(
    live_app: Celery, waiting: Callable[..., Any]
) -> None:
    """Else a worker that stops would wait for it."""
    ends, runs = (waiting(SimpleNamespace(delivery_tag=tag)) for tag in "ab")
    pool = SimpleNamespace(flush=lambda: state.task_ready(ends))
    Closing(live_app, pool).consumer.on_close()
    assert runs in state.reserved_requests
    assert ends not in state.reserved_requests
    assert ends not in state.active_requests


def test_the_message_of_a_task_whose_process_ends_then_returns(
    live_app: Celery, waiting: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = waiting(SimpleNamespace(delivery_tag="a", requeue=Mock()))
    monkeypatch.setattr(consumers, "has_lost_process", lambda one: one is request)
    Closing(live_app, SimpleNamespace(flush=lambda: None)).consumer.on_close()
    assert request not in state.reserved_requests
    assert request not in state.active_requests
    request.message.requeue.assert_called_once_with()


@pytest.mark.usefixtures("recwarn")  # Celery warns of its next release
def test_the_message_of_a_task_that_celery_cancels_returns(
    live_app: Celery, waiting: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With worker_cancel_long_running_tasks_on_connection_loss."""
    ping.delay()
    queue: Any = live_app.amqp.queues[live_app.conf.task_default_queue]
    monkeypatch.setattr(unacked, "to_return", {})
    live_app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
    live_app.conf.worker_enable_prefetch_count_reduction = False
    with live_app.connection_for_read() as connection:
        request = waiting(queue(connection.default_channel).get())
        request.task, request.acknowledged = SimpleNamespace(acks_late=True), False
        request.cancel = Mock()
        state.active_requests.add(request)
        consumer = Closing(live_app, SimpleNamespace()).consumer
        consumer.__dict__ |= {"connection": connection}
        consumer.on_connection_error_after_connected(ConnectionResetError())
    assert request.cancel.called
    assert [*unacked.to_return] == [request.message.delivery_tag]


def test_a_pool_that_cannot_end_a_task_returns_its_message(
    live_app: Celery, waiting: Callable[..., Any]
) -> None:
    request = waiting(SimpleNamespace(delivery_tag="a", requeue=Mock()))
    request.task, request.acknowledged = SimpleNamespace(acks_late=True), False
    state.active_requests.add(request)
    Closing(live_app, solo.TaskPool()).consumer.cancel_active_requests()
    request.message.requeue.assert_called_once_with()
    assert request.acknowledged  # so the end of the task does not acknowledge it


@pytest.mark.parametrize(("scaler", "most"), [(None, 1), (SimpleNamespace(max_concurrency=4), 4)])
def test_a_pool_that_grows_may_take_messages_for_all_its_processes(
    live_app: Celery, scaler: Any, most: int
) -> None:
    consumer = Closing(live_app, SimpleNamespace(num_processes=1)).consumer
    consumer.controller = SimpleNamespace(autoscaler=scaler)
    consumer.prefetch_multiplier = 1
    assert consumer.max_prefetch_count == most


def lose_connection(client: "Redis") -> None:
    """Close the connections with which a worker takes messages, and not those of the pools."""
    for one in client.client_list():
        if one["cmd"] in ("eval", "exists", "blpop", "psubscribe"):
            client.client_kill_filter(_id=one["id"], skipme=True)


@pytest.mark.usefixtures("recwarn")  # Celery warns of its next release
def test_tasks_that_wait_in_a_pool_of_threads_run_once_if_the_connection_is_lost(
    live_app: Celery, broker_url: str
) -> None:
    """Nothing can remove a task from the pool, so its message must not return to the queue."""
    runs: list[int] = []
    may_end = threading.Event()

    @live_app.task(name="shop.pack_slowly")
    def pack(number: int) -> None:
        runs.append(number)
        may_end.wait(WAIT_TIMEOUT)

    with (
        Redis.from_url(broker_url) as client,
        worker_thread(live_app, pool="threads", concurrency=1, prefetch_multiplier=4),
    ):
        for number in range(4):
            pack.delay(number)
        wait_until(lambda: client.hlen("unacked") == 4 and runs)
        before = client.info("stats")["total_connections_received"]
        lose_connection(client)
        wait_until(lambda: client.info("stats")["total_connections_received"] > before + 1)
        may_end.set()
        wait_until(lambda: len(runs) >= 4 and not client.hlen("unacked"))
        assert not client.llen(live_app.conf.task_default_queue)
    assert runs == [0, 1, 2, 3]


@pytest.mark.usefixtures("recwarn")  # Celery warns of its next release
def test_a_task_runs_again_if_redis_lost_its_acknowledgement_with_its_last_writes(
    live_app: Celery, broker_url: str
) -> None:
    """It may also have lost what the task sent before it was acknowledged."""
    runs: list[str] = []

    @live_app.task(name="shop.weigh", bind=True)
    def weigh(self: Any) -> None:
        runs.append(self.request.id)

    with Redis.from_url(broker_url) as client, worker_thread(live_app):
        weigh.delay()
        wait_until(lambda: runs and not client.hlen("unacked"))
        weigh.delay()
        wait_until(lambda: len(runs) == 2 and not client.hlen("unacked"))
        tag, queue = acks.recent[-1], live_app.conf.task_default_queue
        with live_app.producer_or_acquire() as producer:
            weigh.apply_async(producer=producer, queue="lost")
        record = (client.rpop("lost") or b"").decode()
        client.zadd("unacked_index", {tag: time.time()})
        client.hset("unacked", tag, f'[{record}, "", "{queue}"]')
        lose_connection(client)
        wait_until(lambda: len(runs) == 3 and not client.hlen("unacked"))


class TestInProcess:
    """Whether a task of a pool process continues when the connection is lost."""

    def job(self, *, alive: bool = True, pid: int | None = None, written: bool = True) -> Any:
        process = SimpleNamespace(_is_alive=lambda: alive)
        fields = {"_write_to": process if written else None, "_worker_pid": pid}
        return type("Job", (), fields | {"_accepted": False, "discard": Mock()})()

    def of(self, job: Any) -> Any:
        return SimpleNamespace(_apply_result=ref(job) if job else None)

    def pool(self, *buffer: Any) -> Any:
        return SimpleNamespace(outbound_buffer=buffer)

    def test_a_task_that_a_process_has_continues(self) -> None:
        job = self.job()
        assert is_in_process(self.of(job), self.pool())
        assert job._accepted, "Celery would forget it"

    def test_a_task_that_waits_does_not(self) -> None:
        for job in (self.job(written=False), self.job(alive=False)):
            assert not is_in_process(self.of(job), self.pool())
            assert not job._accepted
        assert not is_in_process(self.of(None), self.pool())

    def test_nor_a_task_that_waits_again(self) -> None:
        """Its first process has ended, and a new one has the same file descriptor."""
        job = self.job()
        assert not is_in_process(self.of(job), self.pool(job))

    def test_if_the_process_ends_later_celery_gives_the_task_to_another_one(self) -> None:
        job = self.job()
        is_in_process(self.of(job), self.pool())
        assert not has_lost_process(self.of(job))
        assert not job._accepted

    def test_if_the_process_has_ended_meanwhile_the_pool_forgets_the_task(self) -> None:
        job = self.job(alive=False)
        assert has_lost_process(self.of(job))
        job.discard.assert_called_once_with()

    def test_a_task_that_has_started_stays(self) -> None:
        job = self.job(alive=False, pid=7)
        job._accepted = True
        assert not has_lost_process(self.of(job))
        assert job._accepted
        assert not has_lost_process(self.of(self.job(written=False)))
        assert not has_lost_process(self.of(None))


def test_a_worker_whose_pool_does_not_stop_is_ended() -> None:
    """After one second instead of twenty, in a process of its own.

    Its pool process shares the output, which ends when both have ended.
    """
    program = """
import signal, time
from types import SimpleNamespace
import billiard
from apps.pipeline.worker.shutdown import SoftShutdown

child = billiard.Process(target=time.sleep, args=(600,))
child.start()
step = object.__new__(SoftShutdown)
step.EXIT_LIMIT = 1
step.conf = SimpleNamespace(worker_soft_shutdown_timeout=20)
step.stop_at_once = lambda *args: child.join()
step._stop(signal.SIGTERM, None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_TIMEOUT
    )
    assert done.returncode == 0
    assert "did not stop within 1 s" in done.stderr


def test_a_worker_that_handles_no_signal_is_ended_and_says_where_it_hangs() -> None:
    program = """
import signal, time
from types import SimpleNamespace
from apps.pipeline.worker.shutdown import SoftShutdown

def hang(*args):
    time.sleep(600)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
step = object.__new__(SoftShutdown)
step.EXIT_LIMIT, step.HANG_LIMIT = 1, 3
step.conf = SimpleNamespace(worker_soft_shutdown_timeout=20)
step.stop_at_once = hang
step._stop(signal.SIGTERM, None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_TIMEOUT
    )
    assert done.returncode == 1
    assert "in hang" in done.stderr


def test_a_worker_says_at_once_that_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def handle(how: str, **kwargs: Any) -> None:
        told.append(how)

    step: Any = object.__new__(SoftShutdown)
    step.polled_at, step.parent = time.monotonic(), SimpleNamespace(hostname="one@here")
    step.conf = SimpleNamespace(worker_soft_shutdown_timeout=20, broker_transport_options={})
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    worker_shutting_down.connect(handle)
    try:
        step._on_sigterm(signal.SIGTERM, None)
    finally:
        worker_shutting_down.disconnect(handle)
    assert told == ["Warm"]


def test_only_the_main_thread_stops_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a warm shutdown Celery runs the timers in another thread, which cannot set signals."""
    for name in ("setitimer", "signal"):
        monkeypatch.setattr(signal, name, lambda *_: None)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setattr(state, "reserved_requests", set())
    monkeypatch.setattr(state, "should_stop", None)
    step: Any = object.__new__(SoftShutdown)
    step.stopping_since = time.monotonic() - 60
    step.conf = SimpleNamespace(worker_soft_shutdown_timeout=20, broker_transport_options={})
    step.parent = SimpleNamespace(consumer=SimpleNamespace(task_consumer=None))
    with ThreadPoolExecutor() as pool:
        pool.submit(step._poll).result()
    assert state.should_stop is None
    step._poll()
    assert state.should_stop == 0


class TestMingle:
    @pytest.fixture
    def hellos(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of the workers that have asked the others for revoked tasks."""
        asked: list[str] = []

        def hello(inspect: Any, name: str, revoked: Any = None) -> None:
            asked.append(name)

        monkeypatch.setattr(Inspect, "hello", hello)
        return asked

    def start_step(self, app: Celery) -> None:
        controller = SimpleNamespace(state=state, use_eventloop=False)
        consumer: Any = consumers.Consumer(print, app=app, hostname="new", controller=controller)
        [step] = [step for step in consumer.steps if isinstance(step, Mingle)]
        with app.connection() as consumer.connection:
            step.start(consumer)

    def test_a_worker_that_is_alone_does_not_wait_for_others(
        self, live_app: Celery, redis: Redis, hellos: list[str]
    ) -> None:
        wait_until(lambda: not redis.pubsub_numpat())  # workers of earlier tests
        self.start_step(live_app)
        assert hellos == []

    def test_a_worker_asks_the_others_for_revoked_tasks(
        self, live_app: Celery, redis: Redis, hellos: list[str]
    ) -> None:
        with redis.pubsub() as other:  # type: ignore[no-untyped-call]
            other.psubscribe("/0.celery.pidbox")
            wait_until(redis.pubsub_numpat)
            self.start_step(live_app)
        assert len(hellos) == 1

    def test_a_broker_that_does_not_tell_may_have_other_workers(self) -> None:
        with Connection("memory://") as connection:
            assert has_subscribers(connection)


def test_a_result_is_read_to_its_end_when_the_connection_is_lost() -> None:
    """Celery forgets what it has read of a result, and waits for ever for the end of the rest."""
    descriptor, writer = os.pipe()
    os.set_blocking(descriptor, False)
    process = SimpleNamespace(outq=SimpleNamespace(_reader=BilliardConnection(descriptor)))
    handler: Any = object.__new__(asynpool.ResultHandler)
    results: list[object] = []
    handler.__dict__ |= {"fileno_to_outq": {descriptor: process}, "on_state_change": results.append}
    hub = Hub()
    handler.register_with_event_loop(hub)
    hub.add_reader(descriptor, handler.handle_event, descriptor)
    pool = SimpleNamespace(_pool=SimpleNamespace(_result_handler=handler))
    PartialResults(SimpleNamespace(hub=hub, pool=pool)).create(SimpleNamespace(hub=hub, pool=pool))
    body = pickle.dumps("baked")
    os.write(writer, struct.pack(">i", len(body)) + body[:3])
    hub.run_once()
    threading.Timer(0.2, os.write, (writer, body[3:])).start()
    hub.reset()
    assert results == ["baked"]
    os.close(writer)


def test_the_event_loop_removes_a_writer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, (_, writer) = Hub(), os.pipe()
    removed: list[int] = []
    monkeypatch.setattr(hub.poller, "unregister", removed.append)
    KnownWriters(SimpleNamespace(hub=hub)).create(SimpleNamespace(hub=hub))
    hub.remove_writer(writer)
    assert removed == []
    hub.add_writer(writer, print)
    hub.remove_writer(writer)
    hub.remove_writer(writer)
    assert removed == [writer]
    assert not hub.writers
    os.close(writer)
