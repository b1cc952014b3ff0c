"""The generated project's fault tests, one short round: no task is lost, none is sent twice."""

import re
import sys
from pathlib import Path

import pytest
from projects import run
from rendering import render

TIMEOUT = 3000  # seconds; a round takes four minutes on a machine that has nothing else to do


def short_round(project: Path) -> None:
    """Run every test of the project that breaks something; print the table."""
    command = (sys.executable, "-m", "pytest", "-q", "-m", "faults")
    where = ("tests", "apps/pipeline/tests/test_checks.py")
    report = run(project, *command, *where, timeout=TIMEOUT, FAULTS_ROUNDS="short")
    print(report[-8000:])
    assert re.search(r"\d+ passed", report.splitlines()[-1])
    assert "skipped" not in report


@pytest.mark.faults
@pytest.mark.live("pg_ctl")
def test_no_fault_costs_a_task_on_redis(template: Path, tmp_path: Path) -> None:
    short_round(render(template, tmp_path / "project"))
