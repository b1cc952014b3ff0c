"""The result backend: its default, and what each broker can serve."""

import pytest

from support.broker_urls import create_result_backend
from support.projects import BROKERS
from support.questionnaire import Ask, refused
from support.rendering import QUESTIONS, recorded


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("redis", "redis"), ("sentinel", "redis"), ("amqp", "django-db"), ("sqs", "django-db")],
)
def test_the_default_is_the_redis_of_the_broker_or_else_the_database(
    ask: Ask, kind: str, answer: str
) -> None:
    assert recorded(ask(broker_url=BROKERS[kind]))["result_backend"] == answer


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("redis", "redis"),
        ("sentinel", "redis"),
        ("redis", "django-db"),
        ("amqp", "rpc"),
        ("sqs", "none"),
        ("redis", "redis://elsewhere:6379/1"),
        ("amqp", "rediss://elsewhere:6379/1"),
        ("sqs", "redis+socket:///run/r.sock"),
        ("amqp", "sentinel://one:26379;sentinel://two:26379"),
    ],
)
def test_a_result_backend_is_recorded_as_written(ask: Ask, kind: str, answer: str) -> None:
    project = ask(broker_url=BROKERS[kind], result_backend=answer)
    assert recorded(project)["result_backend"] == answer
    if "://" in answer:
        create_result_backend(answer)


@pytest.mark.parametrize(
    ("kind", "answer", "about"),
    [
        ("amqp", "redis", "Use django-db or a Redis URL"),
        ("sqs", "redis", "Use django-db or a Redis URL"),
        ("redis", "rpc", "Use redis\nThe choice rpc sends results as RabbitMQ messages"),
        ("sentinel", "rpc", "RabbitMQ messages"),
        ("sqs", "rpc", "Use django-db\nThe choice rpc sends results as RabbitMQ messages"),
        ("redis", "", "Use redis\nThe result backend is redis, django-db, rpc, none"),
        ("sqs", "database", "Use django-db\nThe result backend is redis, django-db, rpc, none"),
        ("redis", "Redis", "redis, django-db, rpc, none"),
        ("redis", "redis ", "redis, django-db, rpc, none"),
        ("amqp", "rpc://", "redis, rediss, redis+socket or sentinel"),
        ("amqp", "amqp://rabbitmq//", "redis, rediss, redis+socket or sentinel"),
        ("redis", "db+postgresql://db/results", "redis, rediss, redis+socket or sentinel"),
        ("redis", "cache+memcached://h:11211", "redis, rediss, redis+socket or sentinel"),
        ("redis", "disabled://", "redis, rediss, redis+socket or sentinel"),
        ("redis", "valkey://h", "Celery uses the scheme redis://"),
        ("redis", "redis://h/abc", "The database of a Redis"),
        ("redis", "redis://h:0/1", "The port is a number"),
        ("redis", "redis:///1", "has no host"),
        ("redis", "redis://a/0;redis://b/0", "list of servers"),
        ("amqp", "redis://redis:6380/0", "the project's containers: port 6379"),
        ("redis", "sentinel://h", "The port of a Sentinel"),
    ],
)
def test_a_result_backend_that_cannot_work_is_refused(kind: str, answer: str, about: str) -> None:
    refused("result_backend", answer, about, broker_kind=kind)


def test_the_help_names_every_result_backend_and_the_brokers_that_it_needs() -> None:
    text = QUESTIONS["result_backend"]["help"]
    assert all(name in text for name in ("redis", "django-db", "rpc", "none", "URL"))
    assert "redis stores results in the broker's Redis." in text
    assert "rpc needs an amqp broker." in text
