"""Fixtures for all tests: a committed copy of the template and a clean environment."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plumbum
import pytest
from jinja2 import Environment

from support.git import IDENTITY, copy_tree
from support.rendering import ROOT

pytest_plugins = ["support.requirements", "support.table"]


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Do not use the user's settings of git and Copier, or write to the home directory."""
    home = tmp_path_factory.mktemp("environment")
    (home / "settings.yml").write_text("{}\n")
    variables = {
        **IDENTITY,
        "COPIER_SETTINGS_PATH": str(home / "settings.yml"),
        "COPIER_CACHE_DIR": str(home / "cache"),
        "MYPY_CACHE_DIR": str(home / "mypy"),  # what it knows of Django, for all projects
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # git sets them in hooks
            patch.delenv(name, raising=False)
            plumbum.local.env.pop(name, "")
        # Otherwise each process that a test starts compiles the modules that it imports.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        # Copier runs git through this snapshot of the environment. Seen in copier 9.19.1 (not
        # reported yet). Delete this line once fixed.
        plumbum.local.env.update(variables)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Compile each Jinja string only once, because this takes most of the time of a copy.

    Copier compiles each pattern and each part of a path again for every file. Tests that run Copier
    in another process do not use this cache. Seen in copier 9.19.1 (not reported yet). Delete this
    once fixed.
    """
    compile_anew = Environment.compile
    known: dict[object, object] = {}

    def compile_once(
        self: Environment, source: Any, name: Any = None, filename: Any = None, *rest: Any
    ) -> object:
        syntax = (self.trim_blocks, self.lstrip_blocks, self.keep_trailing_newline)
        key = (type(self), self.undefined, syntax, source, name, rest)
        if key not in known or "random" in source:  # Jinja evaluates it when it compiles
            known[key] = compile_anew(self, source, name, filename, *rest)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def template(
    pytestconfig: pytest.Config, own_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The template as in the working tree, in its own repository, tagged v0.0.1."""
    destination = tmp_path_factory.mktemp("committed") / "template"
    copy_tree(ROOT, destination)
    pytestconfig.option.template = str(destination)  # where pytest-copie looks
    return destination


@pytest.fixture
def copie(template: Path, copie: Any) -> Any:
    """pytest-copie on the committed copy."""
    return copie


@pytest.fixture(scope="session")
def copie_session(template: Path, copie_session: Any) -> Any:
    """pytest-copie on the committed copy, for a whole session."""
    return copie_session


SLOW = {
    *("browser", "containers", "faults", "live"),
    *("test_guides", "test_readme", "test_scaling_page", "test_tutorial", "test_upstream"),
    *("test_dev_restarts", "test_django_6", "test_django_tasks"),
    *("test_first_week", "test_ordinary_choices"),
    *("test_bare_machine", "test_carried_over", "test_flips", "test_scheduled_update"),
    *("test_switching", "test_update_and_machine", "test_update_refusals"),
    *("test_benchmarks", "test_hooks", "test_release"),
}
"""The directories and modules that take most of the time."""

SLOWEST_FIRST = (
    "faults",
    "containers",
    "live",
    "browser",
    "generated",
    "docs",
    "update",
    "rendering",
)
"""The directories whose tests take minutes."""


WITHOUT_A_SELECTION = "not faults and not slow"


def pytest_configure(config: pytest.Config) -> None:
    """Run slow tests too if the command selects tests. Only `pytest` alone leaves them out."""
    is_selection = config.option.keyword or config.args_source != config.ArgsSource.TESTPATHS
    is_main = not hasattr(config, "workerinput")
    if is_main and is_selection and config.option.markexpr == WITHOUT_A_SELECTION:
        config.option.markexpr = "not faults"


@pytest.hookimpl(tryfirst=True)  # before the tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest directories first, so that no process runs one of them alone at the end."""
    for item in items:
        if SLOW & {item.path.parent.name, item.path.stem}:
            item.add_marker("slow")
    ranks = {
        Path(__file__).with_name(directory): rank for rank, directory in enumerate(SLOWEST_FIRST)
    }
    items.sort(key=lambda item: ranks.get(item.path.parent, len(ranks)))
