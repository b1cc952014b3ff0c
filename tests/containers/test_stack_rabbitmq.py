"""The containers of a project with RabbitMQ as the broker."""

import pytest

from support.stack_faults import FailureTests
from support.stack_start import StartTests
from support.stacks import Stack

pytestmark = pytest.mark.containers


ANSWERS = {"broker_url": "amqp://rabbitmq:5672//"}


class TestStart(StartTests):
    servers = frozenset({"db", "rabbitmq"})


class TestFailures(FailureTests):
    broker = "rabbitmq"

    def waiting(self, stack: Stack) -> int:
        listed = stack.compose(
            *("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--no-table-headers"),
            *("list_queues", "name", "messages_ready"),
        )
        rows = [line.split() for line in listed.splitlines()]
        return sum(int(row[1]) for row in rows if row[0] == "celery")
