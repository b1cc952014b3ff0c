"""Checks that a change to the template does not break projects of a release."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from support.deployment_files import EVERY_MONITOR
from support.projects import tree
from support.releases import releases, unpack
from support.rendering import CONFIGURATION, QUESTIONS, ROOT, render
from support.updating import owners, rows


def test_every_file_is_in_exactly_one_row_of_the_table(history: Path, tmp_path: Path) -> None:
    everything = {"kubernetes": True, "monitoring": EVERY_MONITOR}
    names = {
        name
        for ci in ("github", "gitlab")
        for name in tree(render(history, tmp_path / ci, **everything, ci=ci))
    }
    assert {name: owners(name) for name in names if len(owners(name)) != 1} == {}
    patterns = rows()
    assert [p for p in patterns if not any(fnmatchcase(name, p) for name in names)] == []


def test_the_users_files_are_excluded_from_updates(history: Path, tmp_path: Path) -> None:
    """The table in the page agrees with copier.yml."""
    left_out = re.findall(
        r"_copier_operation == 'update' %}/(.+?){%", "\n".join(CONFIGURATION["_exclude"])
    )
    kept = [*left_out, *CONFIGURATION["_skip_if_exists"]]
    yours = {pattern.removesuffix("/**") for pattern, whose in rows().items() if whose == "yours"}
    assert yours == set(kept) - {"uv.lock"}


def sources(template: Path) -> set[str]:
    """The paths of the files that a template can create."""
    root = template / "template"
    files = (file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return {name.removesuffix(".jinja") for name in files}


@pytest.mark.parametrize("release", releases())
def test_the_template_is_safe_for_projects_of_a_release(release: str, tmp_path: Path) -> None:
    unpack(release, tmp_path)
    old = yaml.safe_load((tmp_path / "copier.yml").read_text())
    for name in ("_envops", "_subdirectory", "_templates_suffix", "_answers_file"):
        assert CONFIGURATION[name] == old[name], name
    assert set(CONFIGURATION["_skip_if_exists"]) >= set(old["_skip_if_exists"])

    asked = {name: it for name, it in old.items() if not name.startswith("_")}
    for name, question in asked.items():
        assert name in QUESTIONS or any(
            name in str(it.get("default")) for it in QUESTIONS.values()
        ), f"{name} is asked no more, and no default takes its answer over"
        if name in QUESTIONS:
            assert QUESTIONS[name]["type"] == question["type"], name
            assert values(QUESTIONS[name]) >= values(question), f"{name} lost a choice"

    gone = {
        name for name in sources(tmp_path) - sources(ROOT) if owners(name) != ["the template's"]
    }
    assert not gone, "a file that users edit may not be removed or renamed"


def values(question: dict[str, object]) -> set[str]:
    choices = question.get("choices", {})
    assert isinstance(choices, dict)
    return {str(it["value"] if isinstance(it, dict) else it) for it in choices.values()}


def test_every_question_has_a_default_so_that_updates_can_answer_it() -> None:
    assert [name for name, it in QUESTIONS.items() if "default" not in it] == []


def test_no_tracked_file_is_random_or_depends_on_time_or_directory() -> None:
    words = r"random|\bnow\b\s*\(|strftime|uuid|shuffle|_folder_name|dst_path|src_path|copier_conf"
    for file in (ROOT / "template").rglob("*.jinja"):
        code = " ".join(re.findall(r"\{[{%].*?[%}]\}", file.read_text(), re.DOTALL))
        assert file.name == ".env.jinja" or not re.search(words, code), file


def test_the_changelog_contains_no_jinja() -> None:
    assert not re.search(r"\{[{%#]", (ROOT / "CHANGELOG.md").read_text())
