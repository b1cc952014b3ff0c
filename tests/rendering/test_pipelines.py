"""Linters of pipelines, the Dockerfile and shell scripts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.deployment_files import COMPOSE, Project, files
from support.projects import run
from support.rendering import ROOT


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(ROOT, "hadolint", "template/Dockerfile")


def test_the_pipelines_are_valid_and_safe(combinations: list[Path]) -> None:
    github = files(combinations, ".github")
    schemas = {
        "vendor.github-workflows": [
            workflow for each in github for workflow in each.glob("workflows/*.yml")
        ],
        "vendor.dependabot": [each / "dependabot.yml" for each in github],
        "vendor.gitlab-ci": files(combinations, ".gitlab-ci.yml"),
    }
    for schema, found in schemas.items():
        options = ["--data-transform", "gitlab-ci"] if schema == "vendor.gitlab-ci" else []
        command = ("check-jsonschema", "--builtin-schema", schema, *options)
        run(ROOT, *command, *map(str, found))
    run(ROOT, "zizmor", "--offline", "--quiet", "--persona", "pedantic", *map(str, github))


@pytest.mark.parametrize(
    ("name", "kept", "left_out"),
    [
        ("defaults", ".github", ".gitlab-ci.yml"),
        ("rabbitmq", ".gitlab-ci.yml", ".github"),
        ("socket", ".env.example", ".github"),
        ("socket", ".env.example", ".gitlab-ci.yml"),
    ],
)
def test_a_project_has_only_the_pipeline_of_its_ci_service(
    project: Project, name: str, kept: str, left_out: str
) -> None:
    assert (project(name) / kept).exists()
    assert not (project(name) / left_out).exists()


@pytest.mark.parametrize(("name", "started"), [("defaults", True), ("elsewhere", False)])
def test_the_pipeline_starts_the_containers_if_the_broker_is_one_of_them(
    project: Project, name: str, started: bool
) -> None:
    file = project(name) / ".github" / "workflows" / "ci.yml"
    steps = yaml.safe_load(file.read_text())["jobs"]["stack"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert any("compose up" in command for command in commands) is started
    assert any("compose build" in command for command in commands) is not started


def test_pipelines_run_recipes_of_the_justfile(project: Project) -> None:
    for file in (
        project("defaults") / ".github" / "workflows" / "ci.yml",
        project("rabbitmq") / ".gitlab-ci.yml",
    ):
        assert {"uv run just check", "uv run just test"} <= set(
            re.findall(r"uv run just \w+", file.read_text())
        )


def scripts(content: Any) -> Iterator[str]:
    """The shell scripts of a compose file, a pipeline or a manifest."""
    match content:
        case [("sh" | "bash"), "-c", str(script)]:
            yield script
        case list():
            for each in content:
                yield from scripts(each)
        case dict():
            for name, each in content.items():
                match name, each:
                    case "run", str():
                        yield each
                    case (("script" | "before_script" | "after_script"), list()):
                        yield "\n".join(each)
                    case "test", str():  # of a health check
                        yield each
                    case _:
                        yield from scripts(each)


def recipes(project: Path) -> Iterator[str]:
    """The recipes of the justfile, as shell scripts."""
    dump = json.loads(run(project, "just", "--dump", "--dump-format", "json"))
    for name, recipe in dump["recipes"].items():
        words = ["x" for each in recipe["parameters"] if each["kind"] == "singular"]
        yield run(project, "just", "--dry-run", name, *words)


def test_shellcheck_finds_nothing_in_any_script(combinations: list[Path], tmp_path: Path) -> None:
    found = set(recipes(combinations[0]))
    for name in (*COMPOSE, ".github", ".gitlab-ci.yml", "kubernetes"):
        for place in files(combinations, name):
            for file in place.rglob("*.y*ml") if place.is_dir() else [place]:
                for content in yaml.safe_load_all(file.read_text()):
                    # Compose and GitHub replace the expressions in braces before the shell runs.
                    for script in scripts(content):
                        found.add(re.sub(r"\$\{\{.*?\}\}", "filled-in", script).replace("$$", "$"))
    assert len(found) > 30
    places = [tmp_path / f"{number}.sh" for number in range(len(found))]
    for place, script in zip(places, sorted(found), strict=True):
        place.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
    run(ROOT, "shellcheck", "--severity", "warning", ".ci/run", *map(str, places))
