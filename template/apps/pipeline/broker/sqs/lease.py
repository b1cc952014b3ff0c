"""A worker's lease on the messages that it has taken from SQS.

A worker receives a message with a visibility timeout of two minutes. A thread extends this timeout,
up to SQS' limit of 12 hours. A process without a lease uses the visibility timeout of the queue.
Kombu does not extend it. Seen in kombu 5.7.0 (celery #3270). Delete this module once fixed.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from apps.pipeline.liveness.forks import ForkLock

logger = logging.getLogger(__name__)

# The visibility timeout, in seconds. Messages of a dead worker return after it. It is long enough
# for two more requests if SQS does not answer a request within 30 s.
SECONDS = 120
RENEW_AFTER = 30  # seconds since a message was taken or renewed
SEARCH_INTERVAL = 5  # seconds between two searches for messages to renew
BATCH = 10  # messages in a request, the limit of SQS


@dataclass
class Held:
    """A message that this worker has taken, and when (by `time.monotonic`) its lease began."""

    queue: str | None  # the name in SQS
    url: str
    since: float

    def is_lost(self) -> bool:
        """Whether SQS may have given the message to another worker."""
        return time.monotonic() - self.since > SECONDS


held: dict[str, Held] = {}  # by the receipt handle, which is new each time a message is taken

_fork_lock = ForkLock()
_renewing: "Renewal | None" = None


def renews() -> bool:
    """Whether this process renews leases."""
    return _renewing is not None


def start(app: Celery) -> None:
    """Start a thread that renews leases, even while the main thread is busy."""
    global _renewing
    if _renewing is None and str(app.conf.broker_url).startswith("sqs"):
        _renewing = Renewal(app)
        _renewing.start()


def stop() -> None:
    """Stop the renewal."""
    global _renewing
    if _renewing is not None:
        _renewing.ended.set()
        _renewing = None


def age() -> float:
    """The longest time in seconds since a held message was taken or renewed. 0 if none is held."""
    now = time.monotonic()
    return max((now - message.since for message in held.copy().values()), default=0.0)


def release(receipt: str) -> bool:
    """Stop renewing a message. Return whether this worker may still delete or return it."""
    message = held.pop(receipt, None)
    if message is None or not message.is_lost():
        return True
    logger.warning("The lease on a message of %s ended: another worker may have it", message.url)
    return False


class Renewal(threading.Thread):
    def __init__(self, app: Celery) -> None:
        super().__init__(name="lease", daemon=True)
        self.app, self.ended = app, threading.Event()

    def run(self) -> None:
        with _fork_lock:
            while not self.ended.is_set():
                self._renew_until_ended()

    def _renew_until_ended(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with self.app.connection_for_read() as connection:
                channel: Any = connection.default_channel
                while not _fork_lock.wait(self.ended, SEARCH_INTERVAL):
                    renew(channel)
        except (BotoCoreError, ClientError, OperationalError, OSError) as error:
            logger.warning("Renewing the lease failed, trying again: %s", error)
            _fork_lock.wait(self.ended, 1)


def renew(channel: Any) -> None:
    """Renew the messages that were taken or renewed some time ago. Raises the errors of boto3."""
    now = time.monotonic()
    due: dict[tuple[str | None, str], list[str]] = {}
    for receipt, message in held.copy().items():
        if now - message.since >= RENEW_AFTER and not message.is_lost():
            due.setdefault((message.queue, message.url), []).append(receipt)
    for (queue, url), receipts in due.items():
        client = channel.sqs(queue=queue)
        for first in range(0, len(receipts), BATCH):
            _renew_batch(client, url, receipts[first : first + BATCH])


def _renew_batch(client: Any, url: str, receipts: list[str]) -> None:
    began = time.monotonic()
    entries = [
        {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": SECONDS}
        for number, receipt in enumerate(receipts)
    ]
    answer = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    for entry in answer.get("Successful", ()):
        if message := held.get(receipts[int(entry["Id"])]):
            message.since = began
    for entry in answer.get("Failed", ()):
        message = held.get(receipts[int(entry["Id"])])  # None: acknowledged meanwhile
        if message and entry["SenderFault"]:
            message.since = float("-inf")
            reason = entry.get("Message") or entry["Code"]
            logger.error("This worker has lost its lease on a message of %s: %s", url, reason)
