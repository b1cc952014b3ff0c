"""Runs the fault tests of a project with few repetitions."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.projects import run

TIMEOUT = 1440  # seconds; the tests took 13 minutes on two cores with a load of 20
BROKEN = "tests/faults/test_health.py"  # these share processes, which only wait
OTHERS = ("tests/faults", "tests", "apps/pipeline/tests/test_checks.py")
SIDE_BY_SIDE = ("-n", "3", "--dist", "load", "--maxschedchunk", "1")


def run_fault_tests(project: Path) -> None:
    """Run the fault tests of the project, several at a time, and print their tables."""

    def part(*arguments: str) -> str:
        command = (sys.executable, "-m", "pytest", "-q", "-m", "faults", *arguments)
        return run(project, *command, timeout=TIMEOUT, FAULTS_ROUNDS="short")

    with ThreadPoolExecutor() as pool:
        broken = pool.submit(part, BROKEN)
        others = pool.submit(part, *SIDE_BY_SIDE, *OTHERS, "--ignore", BROKEN)
    for report in (broken.result(), others.result()):
        print(report[-8000:])
        assert re.search(r"\d+ passed", report.splitlines()[-1])
        assert "skipped" not in report
