"""The questions without a project: derived values, and the refusals of validators."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from support.rendering import ANSWERS, CONFIGURATION, QUESTIONS, ROOT

DERIVED = tuple(name for name in QUESTIONS if name not in ANSWERS)

Ask = Callable[..., Path]
"""The type of the fixture `ask`: renders the questionnaire into a new directory."""


def derived(project: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((project / "derived.yml").read_text(encoding="utf-8"))
    return values


ENVIRONMENT = SandboxedEnvironment(
    loader=FileSystemLoader(ROOT),
    extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
    **{**CONFIGURATION["_envops"], "undefined": StrictUndefined},
)
VALIDATORS = {
    name: ENVIRONMENT.from_string(details["validator"])
    for name, details in QUESTIONS.items()
    if "validator" in details
}


def refusal(question: str, answer: str, **others: str) -> str:
    """The output of the question's validator. This is a hundred times faster than Copier."""
    return VALIDATORS[question].render({**others, question: answer}).strip()


def broker_refusal(url: str) -> str:
    return refusal("broker_url", url)


COLUMNS, ROWS = 80, 24
FIRST_WORDS = ("Use", "Write", "Put", "Leave out", "Remove", "Start")


def says_what_to_write(question: str, message: str) -> bool:
    """Whether the first line says what to do and fits into a terminal, and the second says why."""
    advice, _, reason = message.partition("\n")
    shown = f"Validation error for question '{question}': {advice}"  # as Copier shows it
    return (
        advice.startswith(FIRST_WORDS)
        and len(shown) <= COLUMNS
        and reason[:1].isupper()
        and reason.endswith(".")
        and "\n" not in reason
    )


def refused(question: str, answer: str, about: str, **others: str) -> None:
    message = refusal(question, answer, **others)
    assert message, f"{answer!r} was accepted"
    assert says_what_to_write(question, message), message
    assert about in message, message
