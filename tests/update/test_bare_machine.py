"""Updates on a machine that has only a shell, coreutils, git, Python and uv."""

import shutil
from pathlib import Path

import pytest

from support.bare import bare_environment, run
from support.git import git
from support.projects import commit
from support.updating import FUTURE, NEXT, step


@pytest.fixture(scope="module")
def bare(own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return bare_environment(tmp_path_factory.mktemp("bare"))


def copy(bare: dict[str, str], where: Path, source: str, name: str = "shop") -> Path:
    """A project of the version before the last, copied as in the README."""
    copier = ("uvx", "--quiet", "copier", "copy", "--defaults", "--quiet", "--vcs-ref", NEXT)
    run(where, bare, *copier, source, name)
    commit(where / name)
    return where / name


@pytest.mark.parametrize("source", ["whole", "relative"])
def test_an_update_needs_only_uv(
    future: Path, bare: dict[str, str], tmp_path: Path, source: str
) -> None:
    shutil.copytree(future, tmp_path / "template")
    given = str(tmp_path / "template") if source == "whole" else "../template"
    (tmp_path / "work").mkdir()
    project = copy(bare, tmp_path / "work", given)
    printed = run(project, bare, "uv", "run", "--quiet", "just", "template-status")
    assert printed.splitlines()[-1] == (
        f"The template has version {FUTURE[1:]}, and the project has {NEXT[1:]}. "
        "Run just template-update."
    )
    commit(project, "uv.lock")
    assert "A page about the office." in run(project, bare, "sh", "bin/template", "merge")
    assert (project / "docs/office.md").exists()
    assert run(project, bare, "sh", "bin/template", "version") == f"{FUTURE}\n"


def test_a_project_inside_its_template_is_updated(
    future: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    template = tmp_path / "clone"
    shutil.copytree(future, template)
    project = copy(bare, template, ".", "demo")
    merged = run(project, bare, "sh", "bin/template", "merge")
    assert f"Updating from {NEXT[1:]} to {FUTURE[1:]}." in merged


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_scheduled_update_needs_only_uv(
    future: Path, bare: dict[str, str], tmp_path: Path, ci: str
) -> None:
    run(
        tmp_path, bare, "uvx", "--quiet", "copier", "copy", "--defaults", "--quiet", "--vcs-ref",
        NEXT, "--data", f"ci={ci}", str(future), "shop",
    )  # fmt: skip
    commit(tmp_path / "shop")
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--bare", str(tmp_path / "shop"), str(origin))
    git(origin, "config", "receive.advertisePushOptions", "true")
    git(tmp_path, "clone", "--quiet", origin.as_uri(), str(clone))
    address = "https://template:token@gitlab.example.com/shop.git"
    git(clone, "config", f"url.{origin.as_uri()}.insteadOf", address)
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in/gh").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "stand-in/gh").chmod(0o755)
    variables = bare | {
        "PATH": f"{tmp_path / 'stand-in'}:{bare['PATH']}",
        "GH_TOKEN": "token",
        "RUNNER_TEMP": str(tmp_path),
        "TEMPLATE_UPDATE_TOKEN": "token",
        "CI_SERVER_HOST": "gitlab.example.com",
        "CI_REPOSITORY_URL": "https://job:token@gitlab.example.com/shop.git",
    }
    run(clone, variables, "bash", "-e", "-c", step(tmp_path / "shop", ci))
    assert git(origin, "branch", "--list", "template/*").split() == [f"template/{FUTURE}"]
    if ci == "github":
        assert "pr create" in (tmp_path / "asked").read_text()
