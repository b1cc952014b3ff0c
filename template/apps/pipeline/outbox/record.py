"""The message of a task, as text that the outbox stores."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from celery import Celery
from kombu import Queue, serialization
from kombu.exceptions import OperationalError
from kombu.utils import json

from apps.pipeline.broker.queues import DELAY, delayed, whole_seconds

# Tasks with the same value of this header are sent in the order of their rows.
KEY = "outbox_key"

# Retry once, for a connection that the broker has closed. In all other cases the row stays.
RETRY: dict[str, Any] = {
    "retry": True,
    "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0.1},
}


class Recorder:
    """Takes the place of a producer, and keeps the message instead of publishing it."""

    body: Any
    options: dict[str, Any]

    def publish(self, body: Any, **options: Any) -> None:
        self.body, self.options = body, options


@dataclass
class Record:
    """A message: the arguments of `Producer.publish`, its event, and calls of the backend."""

    body: str
    binary: bool
    options: dict[str, Any]
    declare: list[str]  # the names of queues
    event: dict[str, Any] | None  # the event task-sent
    calls: list[tuple[str, list[Any]]]  # methods of the result backend to call before publishing

    @classmethod
    def of(cls, send: Callable[..., Any], name: str, message: Any, options: dict[str, Any]) -> Self:
        """Record what Celery's function `send` would publish. Raises kombu's EncodeError."""
        recorder: Any = Recorder()
        send(recorder, name, message._replace(sent_event=None), **options | {"retry": False})
        found = {name: value for name, value in recorder.options.items() if value is not None}
        kind, encoding, body = serialization.dumps(recorder.body, found.pop("serializer"))
        declare = [queue.name for queue in found.pop("declare", ()) if isinstance(queue, Queue)]
        exchange = found.get("exchange")
        found |= {"content_type": kind, "content_encoding": encoding}
        found |= {"exchange": getattr(exchange, "name", exchange)}
        for ours in ("retry", "retry_policy"):
            found.pop(ours, None)
        binary = isinstance(body, bytes)
        text = b64encode(body).decode() if isinstance(body, bytes) else body
        return cls(text, binary, found, declare, message.sent_event, [])

    @classmethod
    def loads(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def dumps(self) -> str:
        return str(json.dumps(vars(self)))

    @property
    def headers(self) -> dict[str, Any]:
        headers: dict[str, Any] = self.options["headers"]
        return headers

    @property
    def key(self) -> str:
        return str(self.headers.get(KEY) or "")

    def publish(self, app: Celery, producer: Any) -> None:
        """Publish the message. Raises OperationalError or the error of the broker."""
        options = self.options | {"headers": {**self.headers}} | self._remaining(app)
        amqp: Any = app.amqp
        with producer.connection._reraise_as_library_errors():
            self._prepare_backend(app.backend, producer)
            if options["exchange"] == DELAY:
                amqp.prepare_delay()
            body = b64decode(self.body) if self.binary else self.body
            declare = [amqp.queues[name] for name in self.declare]
            producer.publish(body, declare=declare, **RETRY, **options)
        if self.event:
            where = {"exchange": options["exchange"], "routing_key": options["routing_key"]}
            where |= {"queue": self.declare[0] if self.declare else None}
            with suppress(Exception):  # the broker has the task
                amqp._event_dispatcher.publish("task-sent", self.event | where, producer)

    def _prepare_backend(self, backend: Any, producer: Any) -> None:
        try:
            for method, arguments in self.calls:
                getattr(backend, method)(*arguments)
            if not self.headers.get("ignore_result"):
                backend.on_task_call(producer, self.headers["id"])
        except Exception as error:  # each backend has its own errors
            reason = error.__cause__ or error
            raise OperationalError(f"The result backend does not answer: {reason}") from error

    def _remaining(self, app: Celery) -> dict[str, Any]:
        """The options that change with time: the rest of a delay in RabbitMQ, and of the expiry.

        The record has them as they were when the task was sent.
        """
        options: dict[str, Any] = {}
        if self.options.get("expiration"):
            # A worker revokes an expired task, and tells its chord. The broker would only drop it.
            options["expiration"] = whole_seconds(app, None, self.headers["expires"])
        if self.options["exchange"] == DELAY:
            seconds = whole_seconds(app, None, self.headers["eta"]) or 1
            options |= delayed(self.options["routing_key"], seconds)
        return options
