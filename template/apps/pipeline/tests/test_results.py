"""Results are stored with one command, and clients subscribe when they wait."""

import threading
import time
from typing import Any

import pytest
from celery import Celery, group, states
from celery.app.task import Context
from celery.backends import redis as celery
from celery.exceptions import BackendStoreError
from celery.result import AsyncResult
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected

from apps.pipeline.broker.redis import results
from apps.pipeline.tasks import ping

WAIT_TIMEOUT = 60  # seconds


@pytest.fixture
def backend(live_app: Celery, broker_url: str) -> Any:
    Redis.from_url(broker_url).flushdb()
    return live_app.backend


def store(backend: Any, state: str, result: object = None) -> None:
    backend.store_result("the-id", result, state)


def state(app: Celery) -> str:
    return AsyncResult("the-id", app=app).state


class Commands:
    """The commands that clients send to Redis, without those of scripts."""

    def __init__(self, url: str) -> None:
        client: Any = Redis.from_url(url)
        self.monitor = client.monitor()

    def __enter__(self) -> list[str]:
        self.names: list[str] = []
        self.monitor.__enter__()
        return self.names

    def __exit__(self, *error: object) -> None:
        for heard in self.monitor.listen():
            if heard["command"] == "ECHO end":
                return
            if heard["client_type"] != "lua":
                self.names.append(heard["command"].split()[0])


class TestStoring:
    def test_storing_takes_one_command(self, backend: Any, broker_url: str) -> None:
        store(backend, states.SUCCESS)  # Redis knows the script from now on
        backend.client.delete(backend.get_key_for_task("the-id"))
        with Commands(broker_url) as names:
            store(backend, states.SUCCESS)
            backend.client.echo("end")
        assert names == ["EVALSHA"]

    def test_celery_needs_three_round_trips(
        self, live_app: Celery, backend: Any, broker_url: str
    ) -> None:
        celerys = celery.RedisBackend(app=live_app, url=broker_url)
        celerys.client.ping()  # connects
        with Commands(broker_url) as names:
            store(celerys, states.SUCCESS)
            celerys.client.echo("end")
        assert names == ["GET", "MULTI", "SETEX", "PUBLISH", "EXEC"]

    @pytest.mark.parametrize("late", [states.FAILURE, states.RETRY, states.REVOKED])
    def test_a_success_stays(self, live_app: Celery, backend: Any, late: str) -> None:
        store(backend, states.SUCCESS, "first")
        store(backend, late, ValueError("late"))
        store(backend, states.SUCCESS, "second")
        assert AsyncResult("the-id", app=live_app).get(timeout=WAIT_TIMEOUT) == "first"

    @pytest.mark.parametrize(
        ("early", "result"),
        [
            (states.STARTED, {"pid": 7}),
            (states.RETRY, ValueError("early")),
            (states.FAILURE, ValueError("early")),
        ],
    )
    def test_other_states_are_overwritten(
        self, live_app: Celery, backend: Any, early: str, result: object
    ) -> None:
        store(backend, early, result)
        assert state(live_app) == early
        store(backend, states.SUCCESS, "done")
        assert AsyncResult("the-id", app=live_app).get(timeout=WAIT_TIMEOUT) == "done"

    def test_a_concurrent_success_stays(self, live_app: Celery, backend: Any) -> None:
        """Another worker stores the success after this worker has read the state."""
        store(backend, states.RETRY, ValueError("early"))
        key, decode = backend.get_key_for_task("the-id"), backend.decode_result

        def overtaken(payload: Any) -> Any:
            backend.decode_result = decode
            store(backend, states.SUCCESS, "done")
            return decode(payload)

        backend.decode_result = overtaken
        store(backend, states.FAILURE, ValueError("late"))
        assert decode(backend.client.get(key))["result"] == "done"

    @pytest.mark.parametrize(
        ("stored", "result", "seconds"),
        [
            (states.SUCCESS, "done", 1000),
            (states.RETRY, ValueError(), 1000),
            (states.FAILURE, ValueError(), 500),
        ],
    )
    def test_a_result_expires_as_in_the_settings(
        self, backend: Any, stored: str, result: object, seconds: int
    ) -> None:
        backend.expires, backend.failure_expires = 1000, 500
        store(backend, stored, result)
        ttl = backend.client.ttl(backend.get_key_for_task("the-id"))
        assert seconds - WAIT_TIMEOUT <= ttl <= seconds

    def test_a_result_can_stay_for_ever(self, backend: Any) -> None:
        backend.expires = 0
        store(backend, states.SUCCESS)
        assert backend.client.ttl(backend.get_key_for_task("the-id")) == -1

    def test_a_result_can_be_compressed(self, live_app: Celery, backend: Any) -> None:
        backend.compression = "gzip"
        store(backend, states.RETRY, ValueError("x" * 1000))
        store(backend, states.SUCCESS, "x" * 1000)
        assert len(backend.client.get(backend.get_key_for_task("the-id"))) < 1000
        assert AsyncResult("the-id", app=live_app).get(timeout=WAIT_TIMEOUT) == "x" * 1000

    @pytest.mark.parametrize("header", ["text", {"status": states.FAILURE}])
    def test_a_header_with_the_name_meta_does_not_change_the_result(
        self, live_app: Celery, backend: Any, header: object
    ) -> None:
        backend.store_result("the-id", "done", states.SUCCESS, request=Context(meta=header))
        assert AsyncResult("the-id", app=live_app).get(timeout=WAIT_TIMEOUT) == "done"

    def test_a_result_that_is_too_large_is_refused(self, backend: Any) -> None:
        backend._MAX_STR_VALUE_SIZE = 10
        with pytest.raises(BackendStoreError, match="too large"):
            store(backend, states.SUCCESS)

    def test_a_lost_connection_is_restored(
        self, live_app: Celery, backend: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempt, errors = backend._store, [Disconnected()]

        def fail_once(*args: Any) -> None:
            attempt(*args)
            if errors:  # the answer is lost
                raise errors.pop()

        monkeypatch.setattr(backend, "_store", fail_once)
        store(backend, states.FAILURE, ValueError())
        assert not errors
        assert state(live_app) == states.FAILURE

    def test_storing_works_after_a_restart_of_redis(self, live_app: Celery, backend: Any) -> None:
        store(backend, states.RETRY, ValueError())
        backend.client.script_flush()
        store(backend, states.SUCCESS)
        assert state(live_app) == states.SUCCESS


class TestWaiting:
    def test_a_task_is_sent_without_a_subscription(
        self, live_app: Celery, backend: Any, broker_url: str
    ) -> None:
        live_app.conf.task_send_sent_event = False
        ping.delay()  # connects and pings Redis
        with Commands(broker_url) as names:
            kept = [ping.delay() for _ in range(3)]
            backend.client.echo("end")
        assert set(names) <= {"LPUSH", "PING"}
        assert len(kept) == names.count("LPUSH") == 3

    def test_the_result_of_a_completed_task_is_read(self, backend: Any) -> None:
        sent = ping.delay()
        backend.store_result(sent.id, "pong", states.SUCCESS)
        assert sent.get(timeout=0) == "pong"

    def test_a_result_arrives_as_soon_as_it_is_stored(
        self, backend: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(results, "READ_INTERVAL", 1000)  # it does not read results by itself
        sent = [ping.delay(), ping.delay()]
        for task in sent:
            store_late = (task.id, "pong", states.SUCCESS)
            threading.Timer(0.2, backend.store_result, store_late).start()
            assert task.get(timeout=WAIT_TIMEOUT) == "pong"
        assert not backend.result_consumer.subscribed_to

    def test_a_result_whose_message_was_lost_is_read(
        self, backend: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(results, "READ_INTERVAL", 0.1)
        sent = ping.delay()

        def store_silently() -> None:
            value = backend.encode({"status": "SUCCESS", "result": "pong", "task_id": sent.id})
            backend.client.set(backend.get_key_for_task(sent.id), value)

        threading.Timer(0.2, store_silently).start()
        assert sent.get(timeout=WAIT_TIMEOUT) == "pong"

    def test_a_state_that_is_not_a_result_is_ignored(self, backend: Any) -> None:
        sent = ping.delay()
        backend.store_result(sent.id, ValueError("again"), states.RETRY)
        threading.Timer(0.2, backend.store_result, (sent.id, "pong", states.SUCCESS)).start()
        heard: list[str] = []
        assert (
            sent.get(timeout=WAIT_TIMEOUT, on_message=lambda m: heard.append(m["status"])) == "pong"
        )
        assert heard[-1] == states.SUCCESS

    def test_a_callback_runs_for_a_completed_task(self, backend: Any) -> None:
        sent = ping.delay()
        backend.store_result(sent.id, "pong", states.SUCCESS)
        heard: list[Any] = []
        sent.then(lambda result: heard.append(result.result))
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not heard and time.monotonic() < deadline:
            backend.result_consumer.drain_events(timeout=0.1)
        assert heard == ["pong"]

    def test_a_group_is_waited_for(self, live_worker: Celery) -> None:
        assert group(ping.s() for _ in range(20))().get(timeout=WAIT_TIMEOUT) == ["pong"] * 20


class TestRefusal:
    """If the result backend does not answer, no task is sent."""

    @pytest.fixture
    def backend_down(self, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise Disconnected

        monkeypatch.setattr(backend.client, "ping", refuse)

    def test_a_task_is_not_sent_without_the_result_backend(
        self, backend: Any, backend_down: None
    ) -> None:
        with pytest.raises(RuntimeError, match="result backend does not answer"):
            backend.on_task_call(None, "the-id")

    def test_the_result_backend_is_pinged_once_in_an_interval(
        self, backend: Any, backend_down: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(results, "PING_INTERVAL", WAIT_TIMEOUT)
        backend.answered_at = time.monotonic()
        backend.on_task_call(None, "the-id")
        backend.answered_at -= WAIT_TIMEOUT
        with pytest.raises(RuntimeError):
            backend.on_task_call(None, "the-id")


def test_a_chord_goes_on_although_answers_of_redis_are_lost(
    backend: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis.retry.sleep", lambda *_: None)
    parse, answers = backend.client.parse_response, list[str]()

    def lose_every_second(connection: Any, command: str, **options: Any) -> Any:
        answer = parse(connection, command, **options)
        answers.append(command)
        if len(answers) % 2:
            raise Disconnected
        return answer

    monkeypatch.setattr(backend.client, "parse_response", lose_every_second)
    backend.set_chord_size("the-group", 1)
    request = Context(id="the-id", group="the-group", group_index=0, chord=ping.si())
    backend.on_chord_part_return(request, states.SUCCESS, None)
    assert len(answers) > 5
    assert Redis.from_url(broker_url).llen(backend.app.conf.task_default_queue) == 1


@pytest.mark.parametrize(
    ("url", "cls"),
    [
        ("redis://redis:6379/0", results.RedisBackend),
        ("rediss://redis:6379/0?ssl_cert_reqs=required", results.RedisBackend),
        ("redis+socket:///run/redis.sock", results.RedisBackend),
        ("sentinel://one:26379;sentinel://two:26379", results.SentinelBackend),
    ],
)
def test_every_redis_url_uses_the_backend(url: str, cls: type[Any]) -> None:
    with Celery("elsewhere", backend=url, set_as_current=False) as app:
        assert type(app.backend) is cls
