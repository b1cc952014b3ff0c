"""The benchmarks run and print all of their figures. The values are not tested."""

import subprocess
import sys

import pytest

from support.rendering import ROOT

TIMEOUT = 600  # seconds; it takes twenty


def figures_of(program: str, *options: str) -> tuple[list[list[str]], list[str]]:
    """The cells of the table that a benchmark prints, and all of its lines."""
    process = subprocess.run(
        [sys.executable, f"benchmarks/{program}", *options],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=TIMEOUT,
    )
    lines = process.stdout.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return [cells[0], *cells[2:]], lines


@pytest.mark.parametrize("against", [[], ["--django"]], ids=["Celery", "Celery in Django"])
def test_the_benchmark_of_the_worker_says_every_figure_of_both_sides(against: list[str]) -> None:
    few = ["--rounds", "1", "--tasks", "50"]
    lines, [*_, versions] = figures_of("worker.py", *few, *against)
    head, *rows = lines
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
    assert "celery" in versions


@pytest.mark.live("pg_ctl")
@pytest.mark.parametrize("other", ["django-celery-beat", "redbeat"])
def test_the_benchmark_of_beat_says_every_figure_of_both_schedulers(other: str) -> None:
    few = ["--rounds", "1", "--rows", "10", "--seconds", "6"]
    (head, *rows), [*_, versions] = figures_of("beat.py", *few, "--against", other)
    assert head[2:4] == ["this project", other]
    assert len(rows) == 9
    for _, row, *figures in rows:
        assert all(float(figure.replace(",", "")) >= 0 for figure in figures), row
    assert "django-celery-beat" in versions


def test_the_benchmark_of_the_page_compares_a_worker_with_and_without_it() -> None:
    (head, *rows), _ = figures_of("page.py", "--rounds", "1", "--tasks", "300")
    assert head == ["measured", "page closed", "page open", "open / closed"]
    assert len(rows) == 3
    assert [len([cell for cell in row if cell]) for row in rows] == [4, 4, 2]
    figures = [cell for _, *cells in rows for cell in cells if cell]
    assert all(float(figure.replace(",", "")) > 0 for figure in figures)


def test_the_benchmark_of_task_runners_prints_a_row_for_each() -> None:
    names = ["this project", "bare Celery"]  # the others are installed from the network
    few = ["--rounds", "1", "--kills", "0", "--tasks", "300"]
    (_, *rows), _ = figures_of("runners.py", "--only", *names, *few)
    assert [name for name, *_ in rows] == names
    assert all(float(figure.replace(",", "")) > 0 for _, *figures in rows for figure in figures)


def test_the_benchmark_of_the_health_check_compares_it_with_a_ping() -> None:
    (head, *rows), lines = figures_of("health.py", "--rounds", "1", "--idle", "2")
    assert head == ["check", "ms of CPU", "of which the worker's", "s of CPU per hour"]
    heartbeat, ping, idle_head, _, *idle = rows
    assert idle_head == ["worker without tasks", "s of CPU per hour"]
    assert (heartbeat[0], ping[0]) == ("bin/heartbeat.py", "inspect ping")
    assert float(heartbeat[3]) < float(ping[3])
    assert [name for name, _ in idle] == ["this project", "bare Celery"]
    assert "celery" in lines[-1]


@pytest.mark.live("pg_ctl")
def test_the_benchmark_of_a_view_compares_it_with_and_without_the_outbox() -> None:
    (head, *rows), [*_, versions] = figures_of("view.py", "--rounds", "1", "--tasks", "40")
    assert head[1:4] == ["bare Celery", "this project", "with the outbox"]
    assert len(rows) == 4
    for row, *figures in rows:
        assert all(float(figure) > 0 for figure in figures), row
    assert "celery" in versions


@pytest.mark.live("pg_ctl")
def test_the_benchmark_of_sync_schedules_writes_all_of_them() -> None:
    options = ["--rounds", "1", "--schedules", "30"]
    (head, *rows), _ = figures_of("sync_schedules.py", *options)
    assert head == ["30 schedules", "s", "s of CPU"]
    assert [row for row, *_ in rows] == ["all are new", "none has changed", "the start of Django"]
    assert all(float(figure) > 0 for _, *figures in rows for figure in figures)


def test_the_benchmark_of_copies_compares_them_with_a_template_of_one_file() -> None:
    (_, *rows), _ = figures_of("copy_time.py", "--rounds", "1")
    assert [name for name, *_ in rows] == [
        "this template",
        "one file",
        "this template, Copier's API",
    ]
    assert all(float(figure) > 0 for _, *figures in rows for figure in figures)
