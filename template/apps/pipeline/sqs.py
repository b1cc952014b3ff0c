"""Kombu's transport for SQS, which outlives an hour of SQS's that is not its best.

`config/celery.py` names it. The package boto3 is there only where SQS is the broker.
"""

from typing import Any

from kombu.transport import SQS


class Channel(SQS.Channel):
    def _on_messages_ready(self, queue: str, name: str, messages: Any) -> Any:
        # Kombu gives an empty list when SQS did not answer, or answered with its own error, and
        # then asks this for its messages: an AttributeError, which ends the worker.
        return super()._on_messages_ready(queue, name, messages or {})  # type: ignore[misc]


class Transport(SQS.Transport):
    Channel = Channel
