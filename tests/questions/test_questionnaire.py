"""The questions as a whole: their order, their defaults, and where they are found."""

import re
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

from support.questionnaire import Ask, derived
from support.rendering import ANSWERS, CONFIGURATION, DEFAULTS, QUESTIONS, recorded


def test_the_questions_have_this_order() -> None:
    assert ANSWERS == (
        "project_name",
        "project_slug",
        "description",
        "time_zone",
        "broker_url",
        "result_backend",
        "sentinel_master",
        "beat_scheduler",
        "monitoring",
        "kubernetes",
        "ci",
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_every_question_has_a_type_a_default_and_a_line_of_help(name: str) -> None:
    question = QUESTIONS[name]
    assert question["type"] in {"str", "bool"}
    assert "default" in question
    assert re.search(r"\?\n.*\.\Z", question["help"], re.DOTALL), "asks, then says what follows"
    assert len(question["help"]) <= 250


def test_the_template_never_needs_trust() -> None:
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(CONFIGURATION)


def test_the_defaults_give_the_system_of_the_specification(ask: Ask) -> None:
    project = ask()
    assert recorded(project) == DEFAULTS
    assert derived(project) == {
        "broker_scheme": "redis",
        "broker_kind": "redis",
        "stack_broker": "redis",
        "broker_in_stack": True,
        "redis_in_stack": True,
        "parts": ["github"],
    }


def test_a_misspelt_answer_is_an_error_in_the_tests(ask: Ask) -> None:
    with pytest.raises(ValueError, match="Not a question of the template: broker_ulr"):
        ask(broker_ulr="sqs://")


def test_a_derived_value_cannot_be_answered_in_the_tests(ask: Ask) -> None:
    with pytest.raises(ValueError, match="broker_kind"):
        ask(broker_kind="amqp")


@pytest.mark.parametrize("prefix", ["", "git+file://"], ids=["path", "clone"])
def test_the_validators_are_found_in_a_git_repository(
    template: Path, tmp_path: Path, prefix: str
) -> None:
    with pytest.raises(ValueError, match="has no host"):
        run_copy(
            f"{prefix}{template}",
            tmp_path / "project",
            data={"broker_url": "redis:///0"},
            defaults=True,
            quiet=True,
        )
    assert not (tmp_path / "project").exists()


def test_pytest_copie_renders_the_committed_copy(copie: Any, template: Path) -> None:
    assert copie.default_template_dir == template
    result = copie.copy(extra_answers={"broker_url": "redis://elsewhere:70000/0"})
    assert result.exit_code == -1
    assert "The port is a number from 1 to 65535" in str(result.exception)
