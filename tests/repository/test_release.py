"""The recipe `release`: its refusals and its results."""

import re
import shutil
from pathlib import Path

import pytest

from support.git import copy_tree, git
from support.projects import run
from support.rendering import ROOT

CHANGELOG = """## [Unreleased]

## [7.0.0] - 2030-01-01

### Changed

- The colour of the office.
"""

UV = """#!/bin/sh
# Runs the command after `uv run`. The exit code of pytest is $TESTS_END.
shift
case "$1" in pytest) exit "${TESTS_END:?}" ;; esac
exec "$@"
"""


@pytest.fixture
def repository(own_environment: None, tmp_path: Path) -> Path:
    """The template in its own repository, with a version that is in the changelog."""
    repository = tmp_path / "template"
    copy_tree(ROOT, repository)
    changelog = repository / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(text.replace("## [Unreleased]\n", CHANGELOG, 1), encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", "Tell of 7.0.0")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV)
    (tmp_path / "bin" / "uv").chmod(0o755)
    return repository


def release(repository: Path, version: str, *, tests_end: int = 0, code: int = 0) -> str:
    just = shutil.which("just") or pytest.fail("just is missing")
    return run(
        repository,
        *("env", f"PATH={repository.parent / 'bin'}:{Path(just).parent}:/usr/bin:/bin"),
        *(just, "release", version),
        codes=(code,),
        TESTS_END=str(tests_end),
    )


def test_a_release_is_tagged_and_archived(repository: Path) -> None:
    assert "v7.0.0 is tagged" in release(repository, "7.0.0")
    assert git(repository, "describe").strip() == "v7.0.0"
    assert git(repository, "status", "--porcelain") == ""
    assert (repository / "tests" / "update" / "releases" / "v7.0.0.tar.xz").is_file()
    version = re.search(r'^version = "(.+)"$', (repository / "pyproject.toml").read_text(), re.M)
    assert version
    assert version[1] == "7.0.0"
    assert "The tag v7.0.0 exists" in release(repository, "7.0.0", code=1)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("7.0", "Write the version as three numbers"),
        ("v7.0.0", "Write the version as three numbers"),
        ("7.0.1", "CHANGELOG.md has no entries under '## [7.0.1]"),
        ("7.0.0", "The tests fail"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(
    repository: Path, version: str, message: str
) -> None:
    before = git(repository, "rev-parse", "HEAD")
    assert message in release(repository, version, tests_end=1, code=1)
    assert git(repository, "rev-parse", "HEAD") == before
    assert git(repository, "tag", "--list", "v7*") == ""
    assert git(repository, "status", "--porcelain") == ""


def test_uncommitted_changes_are_refused(repository: Path) -> None:
    (repository / "README.md").write_text("Unfinished\n")
    assert "Commit or stash your changes first" in release(repository, "7.0.0", code=1)
    assert git(repository, "tag", "--list", "v7*") == ""
