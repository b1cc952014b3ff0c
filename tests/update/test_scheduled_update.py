"""The scheduled run of the pipeline, which proposes an update unless there is a conflict."""

import os
import subprocess
from pathlib import Path

import pytest

from support.git import IDENTITY, git
from support.projects import commit, environment, replace, write
from support.updating import FUTURE, NEXT, Make, step


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize("conflict", [False, True], ids=["clean", "conflict"])
def test_the_scheduled_run_proposes_the_update_unless_it_conflicts(
    future: Path, make: Make, tmp_path: Path, ci: str, conflict: bool
) -> None:
    project = make(future, NEXT, ci=ci)
    if conflict:
        replace(project / "config/settings/base.py", '"en-us"', '"de-at"')
        commit(project)
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--bare", str(project), str(origin))
    git(origin, "config", "receive.advertisePushOptions", "true")
    git(tmp_path, "clone", "--quiet", "--depth=1", origin.as_uri(), str(clone))
    write(tmp_path, {"tools/gh": f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'})
    (tmp_path / "tools/gh").chmod(0o755)
    variables = environment(
        **IDENTITY,
        GH_TOKEN="token",
        RUNNER_TEMP=str(tmp_path),
        TEMPLATE_UPDATE_TOKEN="token",
        CI_SERVER_HOST="gitlab.example.com",
        CI_REPOSITORY_URL="https://job:token@gitlab.example.com/shop.git",
    )
    address = "https://template:token@gitlab.example.com/shop.git"
    git(clone, "config", f"url.{origin.as_uri()}.insteadOf", address)
    variables["PATH"] = f"{tmp_path / 'tools'}{os.pathsep}{variables['PATH']}"
    process = subprocess.run(
        ["bash", "-e", "-c", step(project, ci)],
        cwd=clone,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
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
