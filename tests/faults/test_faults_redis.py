"""The fault tests of a project on Redis, with few repetitions."""

from pathlib import Path

import pytest

from support.fault_tests import run_fault_tests
from support.rendering import render


@pytest.mark.faults
@pytest.mark.live("pg_ctl")
def test_no_fault_loses_a_task_on_redis(template: Path, tmp_path: Path) -> None:
    run_fault_tests(render(template, tmp_path / "project"))
