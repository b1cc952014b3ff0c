"""An empty Redis, a connection to it, and what a test leaves in the process."""

from collections.abc import Iterator

import pytest
from celery import current_app
from kombu import Connection
from redis import Redis

from apps.pipeline.broker.redis import acks, unacked


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def connection(broker_url: str, redis: Redis) -> Iterator[Connection]:
    with Connection(broker_url) as connection:
        yield connection


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Forget the messages that channels of earlier tests have left. Later channels return them."""
    acks.broker = None
    acks.recent.clear()
    acks.early.clear()
    acks.to_acknowledge.clear()
    unacked.to_return.clear()


@pytest.fixture(autouse=True)
def unchanged_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test changes in Celery's configuration. A scheduler of redbeat updates it."""
    changes: dict[str, object] = vars(current_app.conf)["changes"]
    before = changes.copy()
    yield
    monkeypatch.undo()
    changes.clear()
    changes.update(before)
