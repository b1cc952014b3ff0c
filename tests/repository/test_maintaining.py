"""The recipes and pipelines of this repository, and the pages that name them."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.projects import environment, run
from support.rendering import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

CHANGES = """# Changes

## [Unreleased]

- Not yet.

## [1.2.0] - 2030-02-01

### Added

- A page.

## [1.1.0] - 2030-01-01

- An older change.
"""


def test_the_pipelines_are_valid_and_safe() -> None:
    for schema, files in {
        "vendor.github-workflows": WORKFLOWS,
        "vendor.dependabot": [ROOT / ".github" / "dependabot.yml"],
    }.items():
        run(ROOT, "check-jsonschema", "--builtin-schema", schema, *map(str, files))
    run(ROOT, "zizmor", "--offline", "--quiet", "--persona", "pedantic", str(ROOT / ".github"))


def test_the_forms_ask_each_thing_once() -> None:
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    for form in (forms / "bug.yml", forms / "idea.yml"):
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        ids = [field["id"] for field in content["body"]]
        assert len(ids) == len(set(ids))
        assert any(field.get("validations", {}).get("required") for field in content["body"])


def test_ci_runs_what_the_repository_runs() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["everything"]
    assert any(".ci/run" in step.get("run", "") for step in steps["steps"])


@pytest.mark.parametrize(("tag", "code"), [("v1.2.0", 0), ("v9.9.9", 1)])
def test_a_release_publishes_its_section_of_the_changelog(
    tmp_path: Path, tag: str, code: int
) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGES, encoding="utf-8")
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@" > asked\n', encoding="utf-8")
    (tmp_path / "gh").chmod(0o755)
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["release"]
    variables = environment(TAG=tag, GH_TOKEN="token")
    variables["PATH"] = f"{tmp_path}:{variables['PATH']}"
    script = steps["steps"][-1]["run"]
    process = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=variables)
    assert process.returncode == code
    assert (tmp_path / "asked").exists() == (code == 0)
    if code == 0:
        assert (tmp_path / "notes.md").read_text().split("\n") == [
            "",
            "### Added",
            "",
            "- A page.",
            "",
            "",
        ]


def test_all_commands_in_contributing_are_recipes() -> None:
    recipes = set(run(ROOT, "just", "--summary").split())
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`?uv run just ([a-z-]+)", page))
    assert {"test-fast", "release", "demo"} <= named
    assert named <= recipes


def test_all_places_in_contributing_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:template|tests|docs|validators|\.ci)/[\w./-]*)`", page)
    assert len(places) > 10
    for place in places:
        assert (ROOT / place).exists() or (ROOT / f"{place}.jinja").exists(), place
