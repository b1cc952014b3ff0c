"""The fault tests of a project on Redis, for a short time."""

from pathlib import Path

import pytest

from support.fault_round import short_round
from support.rendering import render


@pytest.mark.faults
@pytest.mark.live("pg_ctl")
def test_no_fault_loses_a_task_on_redis(template: Path, tmp_path: Path) -> None:
    short_round(render(template, tmp_path / "project"))
