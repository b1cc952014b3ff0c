"""The container stack with RabbitMQ as its broker, built and run for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack_contract import NothingLost, UpFromNothing
from stacks import Stack, running

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack as `just up` leaves it on a fresh copy."""
    directory = tmp_path_factory.mktemp("stack")
    with running(template, directory, broker_url="amqp://rabbitmq:5672//") as stack:
        yield stack


@pytest.fixture(scope="module")
def trial(stack: Stack) -> Stack:
    stack.try_out()
    return stack


class TestUpFromNothing(UpFromNothing):
    servers = frozenset({"db", "rabbitmq"})


class TestNothingLost(NothingLost):
    broker = "rabbitmq"

    def waiting(self, stack: Stack) -> int:
        listed = stack.compose(
            *("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--no-table-headers"),
            *("list_queues", "name", "messages_ready"),
        )
        rows = [line.split() for line in listed.splitlines()]
        return sum(int(row[1]) for row in rows if row[0] == "celery")
