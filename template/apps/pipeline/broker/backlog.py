"""The number and the age of the messages in a queue, without taking a message.

On Redis the oldest message can be read, and its header has the time when it was sent. RabbitMQ and
SQS show a message only by delivering it.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kombu import Connection
from kombu.utils.json import loads

from apps.pipeline.logs.ids import SENT_AT


@dataclass(frozen=True)
class Backlog:
    """The state of a queue. A value that the broker does not report is None."""

    messages: int = 0
    oldest_sent_at: float | None = None
    consumers: int | None = None  # RabbitMQ
    in_flight: int | None = None  # SQS: messages that workers have taken


def backlog(connection: Connection, queue: str) -> Backlog:
    """The state of a queue, which need not exist. Raises the broker's connection errors."""
    kind = connection.transport.driver_type
    channel: Any
    # A new channel, because RabbitMQ closes a channel that asks for a missing queue.
    with suppress(*connection.channel_errors), connection.channel() as channel:
        messages, consumers = _counts(channel, queue)
        return Backlog(
            messages,
            oldest_sent_at=_oldest(channel, queue) if kind == "redis" else None,
            consumers=consumers if kind == "amqp" else None,
            in_flight=_in_flight(channel, queue) if kind == "sqs" else None,
        )
    return Backlog(consumers=0) if kind == "amqp" else Backlog()


def waiting(connection: Connection, queue: str) -> int:
    """How many messages wait in a queue. Raises the broker's connection errors."""
    channel: Any
    with suppress(*connection.channel_errors), connection.channel() as channel:
        return _counts(channel, queue)[0]
    return 0


def _counts(channel: Any, queue: str) -> tuple[int, int]:
    """The number of waiting messages, and of consumers if the broker counts them."""
    if hasattr(channel, "priority_steps"):
        # Redis: a passive declaration looks for the list without the prefix, finds none and raises
        # an error. Seen in kombu 5.7.0 (not reported yet). Delete this branch once fixed.
        size: int = channel._size(queue)
        return size, 0
    messages, consumers = channel.queue_declare(queue, passive=True)[1:]
    return messages, consumers


def _oldest(channel: Any, queue: str) -> float | None:
    """When the oldest message was sent; None if a message has no header `sent_at`."""
    lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps]
    client = channel._create_client()
    oldest = [client.lindex(f"{channel.global_keyprefix}{name}", -1) for name in lists]
    times = [_sent_at(message) for message in oldest if message]
    known = [moment for moment in times if moment is not None]
    return min(known) if known and len(known) == len(times) else None


def _sent_at(message: bytes) -> float | None:
    with suppress(ValueError, TypeError, LookupError):
        return float(loads(message)["headers"][SENT_AT])
    return None


def _in_flight(channel: Any, queue: str) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    client = channel.sqs(queue=channel.canonical_queue_name(queue))
    answer = client.get_queue_attributes(QueueUrl=channel._new_queue(queue), AttributeNames=[name])
    return int(answer["Attributes"][name])
