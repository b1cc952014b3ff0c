"""Celery's result backend on Redis, with fewer commands for each task.

A worker stores a result in one round trip. Celery needs two, a GET and a transaction. A client
subscribes to a result when it waits for it. Celery subscribes whenever it sends a task. Keys and
messages are the same as Celery's. Seen in celery 5.7.0 (not reported yet). Delete `_store_result`
and `STORE`, or `on_task_call` and `ResultConsumer`, once fixed. If both are, delete the module.
"""

import time
from typing import Any

from celery import _state, states
from celery.app.task import Context
from celery.backends import redis as celery
from celery.exceptions import BackendStoreError
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from apps.pipeline.broker.redis import scripts

# The key in `meta` that stores the arguments of a Django task: KEY in django_tasks/running.py.
CALL = "django_task"

# Seconds between two reads of the results that a client waits for, because messages can be lost.
READ_INTERVAL = 1

# Seconds between two pings by a client that sends tasks.
PING_INTERVAL = 1

# Celery counts a task of a chord, and claims the complete chord for this process. If the answer was
# lost, the script runs again and has to recognize the claim. Seen in celery 5.7.0 (not reported
# yet). Delete this and `on_chord_part_return` once fixed.
celery.CHORD_PART_RETURN_LUA = celery.CHORD_PART_RETURN_LUA.replace(  # type: ignore[attr-defined]
    "claim_expires) then", "claim_expires) or redis.call('GET', ckey) == claim_token then"
)


class ResultConsumer(celery.ResultConsumer):  # type: ignore[name-defined,misc]
    """Receives the results that a client waits for, and also reads them once a second."""

    read_at = 0.0

    def drain_events(self, timeout: float | None = None) -> None:
        super().drain_events(timeout)
        if time.monotonic() > self.read_at + READ_INTERVAL:
            self.read_at = time.monotonic()
            self.read_results()

    def read_results(self) -> None:
        """Read results that were stored before the subscription, or whose message was lost."""
        with self._locked():
            keys = [*self.subscribed_to]
            with self.reconnect_on_error():
                for value in self.backend.client.mget(keys) if keys else ():
                    meta = self._decode_result(value) if value else {"status": states.PENDING}
                    if meta["status"] in states.READY_STATES:
                        self.on_state_change(meta, None)


class ResultMixin:
    """Mixin for a backend: store with one command, and subscribe only when a client waits."""

    client: Any
    answered_at = 0.0  # when Redis last answered a client that sends tasks

    def on_task_call(self: Any, producer: Any, task_id: str) -> None:
        """Ping Redis instead of subscribing. Raises RuntimeError if Redis does not answer."""
        nobody_waits = _state.task_join_will_block()  # type: ignore[attr-defined]
        if nobody_waits or time.monotonic() < self.answered_at + PING_INTERVAL:
            return
        try:
            self.ensure(self.client.ping, ())
        except self.connection_errors as error:
            raise RuntimeError("The result backend does not answer.") from error
        self.answered_at = time.monotonic()

    def store_pending(self: Any, task_id: str, name: str, args: list[Any], meta: Any) -> None:
        """Store that a task waits. Celery stores nothing before a worker has the task."""
        request = Context(task=name, args=args, meta=meta)
        self.store_result(task_id, None, states.PENDING, request=request)

    def _store_result(
        self: Any,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Store the result of a task, unless a success is stored already."""
        meta = self._get_result_meta(result, state, traceback, request)
        extra = getattr(request, "meta", None)  # as in django-celery-results, or any header `meta`
        if isinstance(extra, dict) and CALL in extra:
            meta[CALL] = extra[CALL]
        value = self.encode(meta | {"task_id": task_id})
        if len(value) > self._MAX_STR_VALUE_SIZE:
            words = "value too large for Redis backend"
            raise BackendStoreError(words, state=state, task_id=task_id)  # type: ignore[call-arg]
        expires = self.failure_expires if state == states.FAILURE else self.expires
        self.ensure(self._store, (self.get_key_for_task(task_id), value, expires or 0))
        return result

    def on_chord_part_return(self: Any, *args: Any, **kwargs: Any) -> None:
        """Repeat each command for 30 s if Redis restarts. Celery gives up the chord."""
        pool = self.client.connection_pool
        pool.set_retry(Retry(ConstantBackoff(1), 30))
        try:
            super().on_chord_part_return(*args, **kwargs)  # type: ignore[misc]
        finally:
            pool.set_retry(Retry(NoBackoff(), 0))

    def _store(self: Any, key: bytes, value: str | bytes, expires: int) -> None:
        stored: Any = ""
        while True:
            found = self.client.register_script(scripts.STORE)([key], [value, expires, stored])
            if found is None or self.decode_result(found)["status"] == states.SUCCESS:
                return
            stored = found


class RedisBackend(ResultMixin, celery.RedisBackend):
    ResultConsumer = ResultConsumer


class SentinelBackend(ResultMixin, celery.SentinelBackend):
    ResultConsumer = ResultConsumer
