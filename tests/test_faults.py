"""The generated project's fault tests, one short round: no task is lost, none is sent twice."""

import re
from pathlib import Path

import pytest
from projects import run
from rendering import render


@pytest.mark.faults
def test_no_fault_costs_a_task(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    report = run(project, "just", "faults", "-q", timeout=1500, FAULTS_ROUNDS="short")
    print(report[-8000:])
    assert re.search(r"\d+ passed", report.splitlines()[-1])
