"""The fault tests of a project on RabbitMQ, in a separate file so that both run in parallel."""

from pathlib import Path

import pytest

from support.fault_tests import run_fault_tests
from support.rendering import render


@pytest.mark.faults
@pytest.mark.live("rabbitmq-server", "pg_ctl")
def test_no_fault_loses_a_task_on_rabbitmq(template: Path, tmp_path: Path) -> None:
    run_fault_tests(render(template, tmp_path / "project", broker_url="amqp://rabbitmq:5672//"))
