"""The containers of a project, for the tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stacks import Stack, running


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The containers of a new project after `just up`, with the module's `ANSWERS`."""
    answers = getattr(request.module, "ANSWERS", {})
    with running(template, tmp_path_factory.mktemp("stack"), **answers) as stack:
        yield stack


@pytest.fixture(scope="module")
def trial(stack: Stack) -> Stack:
    stack.add_trial_app()
    return stack
