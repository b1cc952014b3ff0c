"""A Python that is new enough for Django 6.0."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def pythons() -> Iterator[Path]:
    """The interpreters on PATH and of pyenv, whose own names on PATH need not work."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = map(Path, os.environ["PATH"].split(os.pathsep))
    for place in [*on_path, *pyenv.glob("versions/3.*/bin")]:
        yield from place.glob("python3")


def is_new_enough(python: Path) -> bool:
    command = [str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def newer_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `uv` use Python 3.12 or newer."""
    found = next(filter(is_new_enough, pythons()), None)
    if found is None:
        pytest.skip("missing: Python 3.12 or newer")
    monkeypatch.setenv("UV_PYTHON", str(found))
