"""Combinations of broker, result backend, scheduler and database on real servers."""

from pathlib import Path

import pytest

from support.matrix import CELLS, Cell, Servers, pairwise
from support.probe_project import Project


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = CELLS if metafunc.config.getoption("--all-cells") else pairwise(CELLS)
        marked = [
            pytest.param(it, id=str(it), marks=pytest.mark.live(*it.programs())) for it in cells
        ]
        metafunc.parametrize("cell", marked)


def test_the_chosen_cells_contain_all_pairs_of_answers() -> None:
    chosen = pairwise(CELLS)
    assert len(chosen) < len(CELLS) / 2
    assert set().union(*(cell.pairs() for cell in chosen)) == set().union(
        *(cell.pairs() for cell in CELLS)
    )


def test_a_cell_works(cell: Cell, servers: Servers, template: Path, tmp_path: Path) -> None:
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    with project.at_work():
        project.run("python", "-m", "apps.probe")
