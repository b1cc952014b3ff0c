"""What all tests share: a committed copy of the template, a clean environment, real servers."""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import plumbum
import pytest
from jinja2 import Environment
from rendering import ROOT
from table import pytest_terminal_summary as pytest_terminal_summary

pytest_plugins = ["updating"]

SERVERS = {"redis": 6379, "rabbitmq": 5672, "postgres": 5432, "mariadb": 3306}
"""The port on loopback of each running server that `@pytest.mark.live(...)` may name.

Any other name in that mark is a program, which a test starts for itself.
"""

IDENTITY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Template Tests",
    "GIT_AUTHOR_EMAIL": "tests@example.com",
    "GIT_COMMITTER_NAME": "Template Tests",
    "GIT_COMMITTER_EMAIL": "tests@example.com",
    "GIT_CONFIG_COUNT": "1",  # a checkout may belong to another user, in containers above all
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
"""Git as nobody configured it: no signing, no hooks, no aliases of whoever runs the tests."""


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's settings of git and Copier out of the tests, and the tests out of home."""
    home = tmp_path_factory.mktemp("environment")
    (home / "settings.yml").write_text("{}\n")
    variables = {
        **IDENTITY,
        "COPIER_SETTINGS_PATH": str(home / "settings.yml"),
        "COPIER_CACHE_DIR": str(home / "cache"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set inside git's own hooks
            patch.delenv(name, raising=False)
            plumbum.local.env.pop(name, "")
        for name, value in variables.items():
            patch.setenv(name, value)
        plumbum.local.env.update(variables)  # Copier runs git through this snapshot
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Compile each of the template's strings once: most of a copy's time goes into it.

    Copier compiles each pattern and each part of a path anew for every file. What is run in a
    process of its own, as people run it, does so still.
    """
    compile_anew = Environment.compile
    known: dict[object, object] = {}

    def compile_once(
        self: Environment, source: Any, name: Any = None, filename: Any = None, *rest: Any
    ) -> object:
        syntax = (self.trim_blocks, self.lstrip_blocks, self.keep_trailing_newline)
        key = (type(self), self.undefined, syntax, source, name, rest)
        if key not in known or "random" in source:  # Jinja draws when it compiles
            known[key] = compile_anew(self, source, name, filename, *rest)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        yield


def git(directory: Path, *arguments: str | Path) -> str:
    """Run git in `directory` and return what it prints."""
    process = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return process.stdout


def copy_tree(root: Path, destination: Path) -> None:
    """Copy the files of `root` that git tracks or would track, and commit them as v0.0.1."""
    destination.mkdir(parents=True)
    git(destination, "init", "--quiet", "--initial-branch=main")
    if (root / ".git").exists():
        listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    else:  # an unpacked archive: the new repository judges what is ignored
        tree = (f"--git-dir={destination / '.git'}", f"--work-tree={root}")
        listed = git(root, *tree, "ls-files", "-z", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = root / name, destination / name
        if source.is_symlink() or source.is_file():  # a tracked file may be deleted by now
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    git(destination, "add", "--all", "--force")
    git(destination, "commit", "--quiet", "--message", "The template as it is here")
    git(destination, "tag", "v0.0.1")


@pytest.fixture(scope="session")
def template(
    pytestconfig: pytest.Config, own_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The template as it is in the working tree, in a repository of its own, tagged v0.0.1."""
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-live",
        action="store_true",
        help="fail where a test that needs a real server would be skipped",
    )
    parser.addoption(
        "--all-cells",
        action="store_true",
        help="run every cell of the matrix, not only enough of them for every pair of answers",
    )
    parser.addoption(
        "--write-table",
        metavar="FILE",
        help="write the page with the matrix's table to this file",
    )


@cache
def reachable(port: int) -> bool:
    """Whether something listens on this port of the loopback address; it has a second to answer."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@cache
def program(name: str) -> str | None:
    """Where a program is; servers may stand beside those that everybody calls."""
    hidden = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        Path("/usr/local/sbin"),
        Path("/usr/sbin"),
    ]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, hidden)))


@cache
def engine() -> bool:
    """Whether a container engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


def missing(item: pytest.Item) -> Iterator[str]:
    """What the test's marks ask for and what is not there."""
    for name in (name for mark in item.iter_markers("live") for name in mark.args):
        if name not in SERVERS and not program(name):
            yield f"the program {name}"
        if name in SERVERS and not reachable(SERVERS[name]):
            yield f"{name} on port {SERVERS[name]}"
    if item.get_closest_marker("containers") and not engine():
        yield "a container engine"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if absent := list(missing(item)):
        pytest.skip(f"not here: {', '.join(absent)}")


SLOWEST_FIRST = ("containers", "faults", "live")
THEN = ("render", "switching", "update", "flips", "scheduled_update")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes: no process is left alone with one at the end."""
    ranks: dict[Path, int] = {}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        names = {*marks, item.path.stem.removeprefix("test_")}
        rank = next((n for n, name in enumerate(SLOWEST_FIRST + THEN) if name in names), 9)
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if cell := parameters.get("cell"):
            item.user_properties.append(("cell", cell.row()))  # for the table at the end


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    live = item.get_closest_marker("live") or item.get_closest_marker("containers")
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if live and skipped and item.config.getoption("--require-live"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--require-live: {reason}"
    return report
