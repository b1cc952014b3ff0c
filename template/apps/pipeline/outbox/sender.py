"""Sends tasks through the outbox."""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from django.db import router, transaction
from kombu.exceptions import OperationalError

from apps.pipeline.broker import queues
from apps.pipeline.outbox import batch, publishing
from apps.pipeline.outbox.direct import directly, is_used
from apps.pipeline.outbox.models import Message
from apps.pipeline.outbox.record import Record
from apps.pipeline.outbox.results import noted

RESULT_BACKENDS = {
    "redis": "apps.pipeline.outbox.results:RedisBackend",
    "rediss": "apps.pipeline.outbox.results:RedisBackend",
    "sentinel": "apps.pipeline.outbox.results:SentinelBackend",
    "rpc": "apps.pipeline.outbox.results:RPCBackend",
}


def install(app: Celery) -> None:
    """Make an application send its tasks through the outbox."""
    BACKEND_ALIASES.update(RESULT_BACKENDS)
    app.amqp_cls = "apps.pipeline.outbox.sender:AMQP"
    vars(app).pop("amqp", None)  # Celery's own, if something has used it


class AMQP(queues.AMQP):
    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if not is_used():
                return send(producer, name, message, **options)
            record = Record.of(send, name, message, options)
            record.calls, alias = noted(), router.db_for_write(Message)
            if record.key or transaction.get_connection(alias).in_atomic_block:
                batch.store(self.app, record, name, alias, producer)
            elif error := self._publish_now(record, producer):
                publishing.keep(record, name, alias, error)
            return None

        return send_task_message

    def _publish_now(self, record: Record, producer: Any) -> OperationalError | None:
        """Publish a message at once, outside of a transaction. Return the error if that failed."""
        if publishing.is_paused():
            return OperationalError("Not sent, because the broker did not answer some seconds ago.")
        try:
            with directly():
                record.publish(self.app, producer)
        except OperationalError as error:
            publishing.pause()
            return error
        return None

    def prepare_delay(self) -> None:
        if not is_used():
            super().prepare_delay()
