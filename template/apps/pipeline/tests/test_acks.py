"""Acknowledgements in the command that takes the next messages."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kombu import Connection
from redis import Redis

from apps.pipeline.broker.redis import acks, lease, transport, unacked
from apps.pipeline.tests.messages import QUEUE, send


class Loop:
    """A consumer, and the steps of the event loop of a worker."""

    def __init__(self, connection: Connection, redis: Redis, prefetch: int = 1) -> None:
        self.connection, self.redis, self.messages = connection, redis, list[Any]()
        self.consumer: Any = connection.Consumer([QUEUE], on_message=self.messages.append)
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()
        self.channel: Any = self.consumer.channel

    def tick(self) -> None:
        """Send the next command."""
        self.connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]

    def take(self) -> Any:
        """Take a message."""
        self.tick()
        self.channel._brpop_read()
        return self.messages.pop()

    def recorded(self) -> set[str]:
        assert self.redis.zcard("unacked_index") == self.redis.hlen("unacked")
        keys: Any = self.redis.hkeys("unacked")
        return {key.decode() for key in keys}


@pytest.fixture
def loop(connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(lease, "held", lambda: True)
    return Loop(connection, redis)


def held(redis: Redis) -> int:
    """The number of tags that this worker's lease covers."""
    return int(redis.scard(lease.keys(lease.worker())[2]))


def test_after_a_failover_tasks_that_were_acknowledged_before_they_ran_do_not_run_again() -> None:
    acks.recent.extend(["late", "early"])
    acks.early.extend(["early", "an older one"])
    transport.return_recent()
    assert [*unacked.to_return] == ["late"]
    assert acks.to_acknowledge == {"early"}


def test_the_next_command_acknowledges(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    send(loop.connection)
    send(loop.connection)
    first = loop.take()
    assert held(loop.redis) == 1
    monkeypatch.setattr(loop.channel.qos, "remove_records", None)  # no other command is sent
    first.ack()
    assert loop.recorded() == {first.delivery_tag}
    second = loop.take()
    assert loop.recorded() == {second.delivery_tag} != {first.delivery_tag}
    assert held(loop.redis) == 1
    assert not loop.channel.acknowledging


def test_without_such_a_command_the_next_tick_acknowledges(
    connection: Connection, loop: Loop
) -> None:
    send(connection)
    loop.consumer.qos(prefetch_count=2)
    message = loop.take()
    loop.tick()  # takes the next message, which does not come
    message.ack()
    assert loop.recorded() == {message.delivery_tag}
    loop.tick()
    assert loop.recorded() == set()
    assert held(loop.redis) == 0


def test_a_closed_channel_has_acknowledged(connection: Connection, loop: Loop) -> None:
    send(connection)
    message = loop.take()
    message.ack()
    loop.channel.close()
    assert loop.recorded() == set()
    assert loop.redis.llen("celery") == 0


def test_a_command_without_an_answer_is_repeated(
    broker_url: str, connection: Connection, loop: Loop
) -> None:
    send(connection)
    message = loop.take()
    message.ack()
    sending = loop.channel.client.connection
    sending.send_packed_command = lambda *_, **__: None  # it gets lost
    loop.tick()
    assert loop.channel.acknowledging == [message.delivery_tag]
    sending.disconnect()
    connection.collect()
    assert acks.to_acknowledge == {message.delivery_tag}
    assert loop.recorded() == {message.delivery_tag}
    with Connection(broker_url) as other:
        other.connect()
        other.default_channel  # noqa: B018 - repeats it
    assert loop.recorded() == set()
    assert not acks.to_acknowledge


def test_another_broker_does_not_forget_what_failed(
    broker_url: str, connection: Connection, loop: Loop
) -> None:
    send(connection)
    message = loop.take()
    loop.channel.qos.keep(message.delivery_tag)
    loop.channel.close()
    message.ack()
    unacked.return_to_queue("another")
    for url in (broker_url.removesuffix("/0") + "/5", broker_url):
        with Connection(url) as other:
            other.connect()
            other.default_channel  # noqa: B018 - repeats it, if it is the same broker
        assert bool(acks.to_acknowledge) == bool(unacked.to_return) == url.endswith("/5")


@pytest.mark.parametrize("where", ["thread", "cancelled", "closed"])
def test_outside_of_the_loop_it_is_sent_at_once(
    connection: Connection, loop: Loop, where: str
) -> None:
    send(connection)
    message = loop.take()
    if where == "thread":
        thread = threading.Thread(target=message.ack)
        thread.start()
        thread.join()
    elif where == "cancelled":
        loop.consumer.cancel()
        message.ack()
    else:
        loop.channel.qos.keep(message.delivery_tag)
        loop.channel.close()
        message.ack()
        assert acks.to_acknowledge == {message.delivery_tag}
        return
    assert loop.recorded() == set()


def test_outside_of_the_loop_one_connection_is_enough(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gevent many tasks can end together, and kombu has ten connections."""
    qos, running, most, tags = loop.channel.qos, set[str](), set[int](), set("abcd")

    def remove(batch: list[str]) -> None:
        running.update(batch)
        time.sleep(0.1)
        most.add(len(running) - len(batch))
        running.difference_update(batch)
        tags.difference_update(batch)

    monkeypatch.setattr(qos, "remove_records", remove)
    with ThreadPoolExecutor() as pool:
        assert [*pool.map(qos.ack, "abcd")] == [None] * 4
    assert (most, tags) == ({0}, set())


def test_a_process_without_a_lease_acknowledges_at_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "held", lambda: False)
    send(loop.connection)
    loop.take().ack()
    assert loop.recorded() == set()
