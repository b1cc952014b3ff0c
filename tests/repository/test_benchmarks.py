"""The benchmarks run and print all of their figures. The values are not tested."""

import subprocess
import sys

import pytest

from support.rendering import ROOT

TIMEOUT = 600  # seconds; it takes twenty


@pytest.mark.parametrize("against", [[], ["--django"]], ids=["Celery", "Celery in Django"])
def test_the_benchmark_of_the_worker_says_every_figure_of_both_sides(against: list[str]) -> None:
    few = ["--rounds", "1", "--tasks", "50"]
    process = subprocess.run(
        [sys.executable, "benchmarks/worker.py", *few, *against],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=TIMEOUT,
    )
    lines = [line.split("|")[1:-1] for line in process.stdout.splitlines() if line[:1] == "|"]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert head == ["measured", "this project", "bare Celery", "project / bare"]
    assert [row for row, *_ in rows] == [
        "publish, tasks per second",
        "publish, ms of CPU per task",
        "worker start to first task done, s",
        "drain, tasks per second",
        "drain, ms of the worker's CPU per task",
        "end to end, tasks per second",
        "latency of one task, p50, ms",
        "latency of one task, p95, ms",
        "memory of the worker (PSS), MiB",
    ]
    for row, *figures in rows:
        assert all(float(figure.replace(",", "")) >= 0 for figure in figures), row
    assert "celery" in process.stdout.splitlines()[-1]
