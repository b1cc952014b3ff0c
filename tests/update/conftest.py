"""Fixtures: a repository with all releases, and projects that are made from it."""

import shutil
from pathlib import Path

import pytest
from copier import run_copy

from support.git import copy_tree, git
from support.projects import commit, replace, write
from support.releases import PARTS, releases, unpack
from support.rendering import ROOT
from support.updating import FUTURE, NEXT, Make


@pytest.fixture(scope="session")
def history(own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a commit and a tag for each release. The last is the working tree."""
    repository = tmp_path_factory.mktemp("history") / "template"
    repository.mkdir()
    here = tmp_path_factory.mktemp("here") / "template"
    copy_tree(ROOT, here)
    git(repository, "init", "--quiet", "--initial-branch=main")
    for version in [*releases(), NEXT]:
        for part in PARTS:
            shutil.rmtree(repository / part, ignore_errors=True)
            (repository / part).unlink(missing_ok=True)
        if version == NEXT:
            for part in PARTS:
                copy = shutil.copytree if (here / part).is_dir() else shutil.copy
                copy(here / part, repository / part)
        else:
            unpack(version, repository)
        git(repository, "add", "--all", "--force")
        git(repository, "commit", "--quiet", "--allow-empty", "--message", version)
        git(repository, "tag", version)
    return repository


@pytest.fixture(scope="session")
def future(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history with a later release, which changes a setting and adds a question and a page."""
    repository = tmp_path_factory.mktemp("future") / "template"
    git(history.parent, "clone", "--quiet", str(history), str(repository))
    replace(
        repository / "template/config/settings/base.py",
        'LANGUAGE_CODE = "en-us"',
        'LANGUAGE_CODE = "en-gb"',
    )
    replace(
        repository / "template/pyproject.toml.jinja", '"whitenoise~=6.12"', '"whitenoise~=6.11"'
    )
    with (repository / "copier.yml").open("a") as questions:
        questions.write("\noffice:\n  type: str\n  help: Where is it? x.\n  default: Vienna\n")
    write(repository, {"template/docs/office.md.jinja": "# The office in {{ office }}\n"})
    # Replace the changelog, so that the output does not depend on the template's own.
    git(repository, "checkout", "--quiet", releases()[0], "--", "CHANGELOG.md")
    replace(
        repository / "CHANGELOG.md",
        "## [Unreleased]\n",
        "## [Unreleased]\n\n## [100.0.0] - 2030-01-01\n\n### Added\n\n- A page about the office.\n",
    )
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", FUTURE)
    git(repository, "tag", FUTURE)
    return repository


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Copy a version of a repository, and commit the project."""

    def made(template: Path | str, version: str, name: str = "project", **answers: object) -> Path:
        run_copy(
            str(template),
            tmp_path / name,
            data=answers,
            vcs_ref=version,
            defaults=True,
            quiet=True,
        )
        commit(tmp_path / name)
        return tmp_path / name

    return made
