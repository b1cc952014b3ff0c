"""Workers with the pools gevent and eventlet are stopped and killed."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from support.fault_tests import SIDE_BY_SIDE, TIMEOUT
from support.projects import run
from support.rendering import render


@pytest.mark.faults
def test_no_fault_loses_a_task_of_gevent(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    module = "tests/faults/test_green_pools.py"
    shutil.copy(Path(__file__).with_name("green_pools.py"), project / module)
    command = (sys.executable, "-m", "pytest", "-q", "-m", "faults", *SIDE_BY_SIDE, module)
    report = run(project, *command, timeout=TIMEOUT)
    print(report)
    assert re.search(r"[48] passed", report)  # 8 if eventlet is installed too
