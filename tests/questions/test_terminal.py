"""The questions in a terminal: what it shows, and which questions it repeats."""

from pathlib import Path

import pytest

from support.questionnaire import COLUMNS, VALIDATORS, refusal
from support.rendering import ANSWERS, QUESTIONS, recorded
from support.terminal import answer_questions

SETTLED = [f"--data={name}={answer}" for name, answer in {
    "project_name": "My Shop", "project_slug": "my-shop", "description": "A shop.",
    "time_zone": "UTC",
    "broker_url": "redis://redis:6379/0", "result_backend": "django-db",
    "sentinel_master": "mymaster",
    "beat_scheduler": "database", "monitoring": "[]", "kubernetes": "no", "ci": "none",
}.items()]  # fmt: skip


def settled(*open_questions: str) -> list[str | Path]:
    """Answers to all questions but these."""
    return [a for a in SETTLED if a.removeprefix("--data=").partition("=")[0] not in open_questions]


CLEAR, INTERRUPT = "\x15", "\x03"
ODD_ANSWERS = {
    "project_name": ["", "x" * 61, "{Shop"],
    "project_slug": ["", "My Shop", "celery", "django-celery-results", "x" * 41],
    "description": ["", "{Shop"],
    "time_zone": ["Mars", "comodrivadavia"],
    "broker_url": ["redis://h:x", "rediss://h?x", "redis+socket://h", "amqps://:1", "redis://:p@h"],
    "result_backend": ["rpc", "rediss://h?x", "redis+socket://h", "sentinel://h"],
    "sentinel_master": ["my master"],
}


def test_there_is_an_odd_answer_for_each_question_with_a_validator() -> None:
    assert {*ODD_ANSWERS, "kubernetes"} == set(VALIDATORS)  # a terminal takes only y and n for it


@pytest.mark.parametrize("question", ANSWERS)
def test_questions_and_refusals_fit_into_a_terminal(
    question: str, questionnaire: Path, tmp_path: Path
) -> None:
    sentinel = [] if question in {"broker_url", "beat_scheduler"} else ["sentinel://h:26379"]
    open_questions = [question, *(["broker_url"] if sentinel else [])]
    arguments = [*settled(*open_questions), *(f"--data=broker_url={url}" for url in sentinel)]
    last_line = QUESTIONS[question]["help"].splitlines()[-1]
    turns = [(last_line, "")]
    for answer in ODD_ANSWERS.get(question, ()):
        advice = refusal(question, answer, broker_kind="redis").partition("\n")[0]
        error = f"Validation error for question '{question}': {advice}"
        turns += [("", f"{CLEAR}{answer}\r"), (error.ljust(COLUMNS), "")]
    shown = answer_questions(
        [*arguments, questionnaire, tmp_path / "shop"], *turns, ("", INTERRUPT)
    )
    for line in QUESTIONS[question]["help"].splitlines():
        assert line in shown


def test_the_terminal_shows_why_a_choice_is_impossible(questionnaire: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    arguments = [*settled("broker_url", "beat_scheduler"), "--data=broker_url=sqs://"]
    shown = answer_questions([*arguments, questionnaire, project], ("Use database or file", "\r"))
    assert "- RedBeat, in Redis (Use database or file: RedBeat needs a Redis broker.)" in shown
    assert recorded(project)["beat_scheduler"] == "database"


def test_copier_repeats_a_question_until_its_answer_is_valid(
    questionnaire: Path, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    answer_questions(
        [*settled("broker_url"), questionnaire, project],
        ("What is the URL of the broker", "x\r"),  # at the end of the default
        ("'broker_url': Use redis://redis:6379/0", "\x7f\r"),
    )
    assert recorded(project)["broker_url"] == "redis://redis:6379/0"


def test_copier_asks_for_a_slug_if_the_name_has_no_latin_letters(
    questionnaire: Path, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    arguments = [*settled("project_name", "project_slug"), "--data=project_name=日本の店"]
    answer_questions([*arguments, questionnaire, project], ("What is the slug", "mise\r"))
    assert recorded(project)["project_slug"] == "mise"
