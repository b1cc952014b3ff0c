"""Values that are derived from the broker URL."""

import pytest

from support.questionnaire import DERIVED, ENVIRONMENT, Ask, broker_refusal, derived
from support.rendering import ANSWERS, QUESTIONS, recorded


@pytest.mark.parametrize(
    ("url", "kind", "stack"),
    [
        ("redis://redis:6379/0", "redis", "redis"),
        ("redis://REDIS/3", "redis", "redis"),
        ("redis://redis?", "redis", "redis"),
        ("redis://redis.example.com/0", "redis", ""),
        ("redis://redis@elsewhere/0", "redis", ""),
        ("redis://rabbitmq:6379/0", "redis", ""),
        ("redis://[::1]/0", "redis", ""),
        ("rediss://redis:6379/0", "redis", ""),
        ("redis+socket:///run/redis/redis.sock", "redis", ""),
        ("sentinel://redis:26379", "sentinel", ""),
        ("sentinel://one:26379;sentinel://redis:26379", "sentinel", ""),
        ("amqp://rabbitmq", "amqp", "rabbitmq"),
        ("amqp://guest@rabbitmq:5672//?heartbeat=10", "amqp", "rabbitmq"),
        ("amqp://rabbitmq;amqp://other", "amqp", ""),
        ("amqp://redis", "amqp", ""),
        ("amqps://rabbitmq:5671//", "amqp", ""),
        ("sqs://", "sqs", ""),
        ("sqs://redis:9324", "sqs", ""),
    ],
)
def test_compose_runs_the_broker_only_if_the_host_is_a_service(
    url: str, kind: str, stack: str
) -> None:
    assert not broker_refusal(url)
    values: dict[str, object] = {"broker_url": url, "result_backend": "none"}
    for name in DERIVED[: DERIVED.index("parts")]:
        default = ENVIRONMENT.from_string(QUESTIONS[name]["default"])
        values[name] = default.render(values)
    assert values["broker_scheme"] == url.partition("://")[0]
    assert values["broker_kind"] == kind
    assert values["stack_broker"] == stack
    assert values["broker_in_stack"] == str(bool(stack))
    assert values["redis_in_stack"] == str(stack == "redis")


def test_compose_runs_a_redis_only_for_results(ask: Ask) -> None:
    values = derived(ask(broker_url="amqp://rabbitmq", result_backend="redis://redis:6379/1"))
    assert (values["stack_broker"], values["redis_in_stack"]) == ("rabbitmq", True)
    values = derived(ask(broker_url="sqs://", result_backend="redis://elsewhere:6379/1"))
    assert (values["stack_broker"], values["redis_in_stack"]) == ("", False)


def test_derived_values_are_not_recorded(ask: Ask) -> None:
    assert set(recorded(ask(broker_url="sentinel://h:26379"))) == set(ANSWERS)
