"""The same on RabbitMQ; a file of its own, which runs beside the other."""

from pathlib import Path

import pytest
from rendering import render
from test_faults import short_round


@pytest.mark.faults
@pytest.mark.live("rabbitmq-server", "pg_ctl")
def test_no_fault_costs_a_task_on_rabbitmq(template: Path, tmp_path: Path) -> None:
    short_round(render(template, tmp_path / "project", broker_url="amqp://rabbitmq:5672//"))
