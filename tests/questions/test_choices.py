"""The Sentinels' master, the scheduler, and the other choices."""

import pytest

from support.projects import BROKERS
from support.questionnaire import Ask, refused, says_what_to_write
from support.rendering import recorded


@pytest.mark.parametrize(
    "answers",
    [
        {"broker_url": "sentinel://h:26379"},
        {"broker_url": "amqp://h", "result_backend": "sentinel://h:26379"},
    ],
)
def test_copier_asks_for_the_master_of_sentinels(ask: Ask, answers: dict[str, str]) -> None:
    assert recorded(ask(**answers))["sentinel_master"] == "mymaster"
    assert recorded(ask(**answers, sentinel_master="shop-1.a_B"))["sentinel_master"] == "shop-1.a_B"


def test_copier_does_not_ask_for_the_master_without_sentinels(ask: Ask) -> None:
    assert "sentinel_master" not in recorded(ask())
    assert "sentinel_master" not in recorded(ask(sentinel_master="shop"))


@pytest.mark.parametrize(
    "name", ["", " ", "my master", "my\nmaster", "my/master", "mäster", "x" * 65]
)
def test_a_name_that_no_master_can_have_is_refused(name: str) -> None:
    refused("sentinel_master", name, "such as mymaster")


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h", "redis+socket:///run/r.sock", "sentinel://h:26379"],
)
def test_redbeat_is_accepted_with_every_redis(ask: Ask, url: str) -> None:
    assert recorded(ask(broker_url=url, beat_scheduler="redbeat"))["beat_scheduler"] == "redbeat"


@pytest.mark.parametrize("kind", ["amqp", "sqs"])
def test_redbeat_is_refused_without_a_redis(ask: Ask, kind: str) -> None:
    with pytest.raises(ValueError, match="Invalid choice for 'beat_scheduler'") as error:
        ask(broker_url=BROKERS[kind], beat_scheduler="redbeat")
    assert str(error.value).endswith("Use database or file: RedBeat needs a Redis broker.")


@pytest.mark.parametrize(
    ("question", "answer"),
    [("beat_scheduler", "cron"), ("ci", "jenkins"), ("monitoring", ["grafana"])],
)
def test_the_refusal_of_an_unknown_choice_lists_the_known_choices(
    ask: Ask, question: str, answer: object
) -> None:
    with pytest.raises(ValueError, match=rf"'{question}': .* is not in \["):
        ask(**{question: answer})


def test_monitoring_takes_any_number_of_choices(ask: Ask) -> None:
    everything = ["flower", "opentelemetry", "prometheus", "sentry"]
    assert recorded(ask(monitoring=everything))["monitoring"] == everything
    assert recorded(ask(monitoring="[sentry, flower]"))["monitoring"] == ["flower", "sentry"]


@pytest.mark.parametrize(
    ("answer", "kubernetes"),
    [("yes", True), ("no", False), ("True", True), ("off", False), ("1", True), ("", False)],
)
def test_the_words_that_mean_yes_and_no(ask: Ask, answer: str, kubernetes: bool) -> None:
    assert recorded(ask(kubernetes=answer))["kubernetes"] is kubernetes


def test_a_word_that_copier_would_take_as_a_yes_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match="question 'kubernetes': Write yes or no\n") as error:
        ask(kubernetes="never")
    assert says_what_to_write("kubernetes", str(error.value).partition(": ")[2])
