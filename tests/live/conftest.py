"""Servers that the live tests share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.matrix import Servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers for all tests, in a directory that the user of each server can read."""
    with TemporaryDirectory(prefix="servers-") as directory:
        Path(directory).chmod(0o755)
        with Servers(Path(directory)) as them:
            yield them
