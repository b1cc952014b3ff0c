"""Result backends that need no connection when a task is stored."""

import threading
from collections.abc import Callable
from typing import Any

from celery.backends import rpc
from kombu.utils.encoding import bytes_to_str

from apps.pipeline.broker.redis import results
from apps.pipeline.outbox.direct import is_used

_noted = threading.local()


def noted() -> list[tuple[str, list[Any]]]:
    """Return and forget the calls to make before this thread's next message is published."""
    return vars(_noted).pop("calls", [])  # type: ignore[no-any-return]


def _later(method: str) -> Callable[..., None]:
    """A method of a backend. If the outbox is used, note its call instead."""

    def call(self: Any, *arguments: Any) -> None:
        if is_used():
            vars(_noted).setdefault("calls", []).append((method, [*map(bytes_to_str, arguments)]))
        else:
            getattr(super(RedisMixin, self), method)(*arguments)

    return call


class LaterMixin:
    """Mixin: leave `on_task_call` to `Record.publish`."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        if not is_used():
            super().on_task_call(producer, task_id)  # type: ignore[misc]


class ResultConsumer(results.ResultConsumer):
    """Subscribes when a client waits. Celery's own subscribes when a group is sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later: set[Any] = set()

    def _consume_from(self, task_id: str) -> None:
        if not is_used():
            super()._consume_from(task_id)
            return
        key = self._get_key_for_task(task_id)
        self._pending_unsubscribe.discard(key)
        if key not in self.subscribed_to:
            self.subscribed_to.add(key)
            self.later.add(key)

    def cancel_for(self, task_id: str) -> None:
        if (key := self._get_key_for_task(task_id)) in self.later:
            self.later.discard(key)
            self.subscribed_to.discard(key)
        else:
            super().cancel_for(task_id)

    def drain_events(self, timeout: float | None = None) -> None:
        if self.later and self._pubsub is not None:
            with self._locked(), self.reconnect_on_error():
                self._pubsub.subscribe(*self.later)
                self.later.clear()
        super().drain_events(timeout)


class RedisMixin(LaterMixin):
    """Mixin for Redis: note what has to be written right before a task is sent."""

    set_chord_size = _later("set_chord_size")
    store_pending = _later("store_pending")
    _set_chord_key = _later("_set_chord_key")


class RedisBackend(RedisMixin, results.RedisBackend):
    ResultConsumer = ResultConsumer


class SentinelBackend(RedisMixin, results.SentinelBackend):
    ResultConsumer = ResultConsumer


class RPCBackend(LaterMixin, rpc.RPCBackend):
    pass
