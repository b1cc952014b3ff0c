"""The project's name and description."""

# ruff: noqa: RUF001  names in many scripts are what is tested

import tomllib
from pathlib import Path

import pytest

from support.questionnaire import Ask, refusal, refused
from support.rendering import recorded, render

ODD_NAMES = [
    "Café Zürich",
    "Bob’s Shop & Sons <GmbH>",
    "Bob's Shop",
    'The "Best" Shop of Bob\'s',
    "日本の店",
    "متجري",
    "فروشگاه\u200cمن",  # a joiner inside a Persian word
    "Shop 🛒",
    "Women in Tech 👩\u200d💻",
    "100% #1: [yes] $HOME @all!",
    "- dashes: first",
    "on",
    "1.0",
    "x" * 60,
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_recorded_as_it_was_written(ask: Ask, name: str) -> None:
    answers = recorded(ask(project_name=name, project_slug="my-shop", description=name))
    assert answers["project_name"] == name
    assert answers["description"] == name


@pytest.mark.parametrize("name", ['Bob\'s "Best" Shop', "100% #1: [yes] $HOME & <b>"])
def test_an_odd_name_reads_the_same_in_every_file(
    template: Path, tmp_path: Path, name: str
) -> None:
    project = render(
        template, tmp_path / "project", project_name=name, project_slug="shop", description=name
    )
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["description"] == name
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n\n{name}\n")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("\t", "is empty"),
        (" Shop", "starts or ends with a space"),
        ("Shop ", "starts or ends with a space"),
        ("My\nShop", "invisible character"),
        ("My\tShop", "invisible character"),
        ("My\x00Shop", "invisible character"),
        ("My\x1b[31mShop", "invisible character"),
        ("My\u202eShop", "invisible character"),
        ("My\u2028Shop", "invisible character"),
        ("My\u200bShop", "invisible character"),
        ("The `Shop`", "a backtick, a brace or a backslash"),
        ("{{ Shop }}", "a backtick, a brace or a backslash"),
        ("{Shop", "a backtick, a brace or a backslash"),
        ("Shop}", "a backtick, a brace or a backslash"),
        ("My\\Shop", "a backtick, a brace or a backslash"),
        ("x" * 201, "and the limit is"),
    ],
)
@pytest.mark.parametrize("question", ["project_name", "description"])
def test_a_text_that_would_break_a_file_is_refused(question: str, text: str, about: str) -> None:
    refused(question, text, about)


def test_a_name_may_have_60_characters_and_a_description_200() -> None:
    refused("project_name", "x" * 61, "61 characters")
    assert not refusal("description", "x" * 200)
