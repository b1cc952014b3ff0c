"""The scheduled run of the pipeline, which proposes an update unless there is a conflict."""

import os
import subprocess
from pathlib import Path

import pytest

from support.git import IDENTITY, git
from support.projects import commit, environment, replace, write
from support.updating import FUTURE, NEXT, Make, step

GH = """#!/bin/sh
cd {root}
echo "$@" >> asked
case "$*" in
    "pr list"*) cat numbers ;;
    "pr create"*)
        for last; do :; done
        test ! -e broken && echo 7 > numbers && cp "$last" created
        ;;
esac
"""
"""A `gh` for a repository whose pull requests are listed in the file `numbers`."""


def scheduled(
    root: Path, project: Path, ci: str, clone: str = "clone"
) -> subprocess.CompletedProcess[str]:
    """Run the step of the pipeline in a clone of `origin.git`, which is created first if needed."""
    origin, copy = root / "origin.git", root / clone
    if not origin.exists():
        git(root, "clone", "--quiet", "--bare", str(project), str(origin))
        git(origin, "config", "receive.advertisePushOptions", "true")
        write(root, {"tools/gh": GH.format(root=root), "numbers": ""})
        (root / "tools/gh").chmod(0o755)
    git(root, "clone", "--quiet", "--depth=1", origin.as_uri(), str(copy))
    variables = environment(
        **IDENTITY,
        GH_TOKEN="token",
        RUNNER_TEMP=str(root),
        TEMPLATE_UPDATE_TOKEN="token",
        CI_SERVER_HOST="gitlab.example.com",
        CI_REPOSITORY_URL="https://job:token@gitlab.example.com/shop.git",
    )
    address = "https://template:token@gitlab.example.com/shop.git"
    git(copy, "config", f"url.{origin.as_uri()}.insteadOf", address)
    variables["PATH"] = f"{root / 'tools'}{os.pathsep}{variables['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", step(project, ci)],
        cwd=copy,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize("conflict", [False, True], ids=["clean", "conflict"])
def test_the_scheduled_run_proposes_the_update_unless_it_conflicts(
    future: Path, make: Make, tmp_path: Path, ci: str, conflict: bool
) -> None:
    project = make(future, NEXT, ci=ci)
    if conflict:
        replace(project / "config/settings/base.py", '"en-us"', '"de-at"')
        commit(project)
    process = scheduled(tmp_path, project, ci)
    origin = tmp_path / "origin.git"
    branches = git(origin, "branch", "--list", "template/*").split()
    if conflict:
        assert process.returncode != 0
        assert "config/settings/base.py" in process.stdout
        assert branches == []
    else:
        assert process.returncode == 0, process.stdout
        assert branches == [f"template/{FUTURE}"]
        changed = git(origin, "diff", "--name-only", "HEAD", f"template/{FUTURE}").split()
        assert {"docs/office.md", "config/settings/base.py"} <= set(changed)
        assert ci == "gitlab" or "pr create" in (tmp_path / "asked").read_text()


def test_a_pull_request_that_could_not_be_opened_is_opened_by_the_next_run(
    future: Path, make: Make, tmp_path: Path
) -> None:
    project = make(future, NEXT, ci="github")
    (tmp_path / "broken").touch()
    assert scheduled(tmp_path, project, "github").returncode
    assert git(tmp_path / "origin.git", "branch", "--list", "template/*").split()
    (tmp_path / "broken").unlink()
    for clone in ("second", "third"):
        process = scheduled(tmp_path, project, "github", clone)
        assert process.returncode == 0, process.stdout
    assert (tmp_path / "asked").read_text().count("pr create") == 2  # the third run opens none


def test_the_text_of_a_pull_request_is_shorter_than_the_limit_of_github(
    future: Path, make: Make, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(future), str(template))
    project = make(template, NEXT, ci="github")
    lines = "".join(f"- Change {number} of the template.\n" for number in range(3000))
    replace(template / "CHANGELOG.md", "- A page about the office.\n", lines)
    commit(template)
    git(template, "tag", "v101.0.0")
    assert scheduled(tmp_path, project, "github").returncode == 0
    body = (tmp_path / "created").read_text()
    assert "Change 100 of" in body
    assert 50_000 < len(body) < 65_536
