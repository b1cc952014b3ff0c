"""Broker URLs that are accepted, and the refusals of others."""

import pytest

from support.broker_urls import ACCEPTED, REFUSED, WITH_A_PASSWORD, prepare_connection
from support.questionnaire import Ask, broker_refusal, refused


@pytest.mark.parametrize("url", ACCEPTED)
def test_a_broker_that_celery_connects_to_is_accepted(url: str) -> None:
    prepare_connection(url)
    assert not broker_refusal(url)


@pytest.mark.parametrize(("url", "about"), REFUSED)
def test_a_broker_url_that_cannot_work_is_refused_with_what_to_write(url: str, about: str) -> None:
    refused("broker_url", url, about)


@pytest.mark.parametrize("url", WITH_A_PASSWORD)
def test_the_refusal_of_a_password_says_where_to_set_it_and_does_not_repeat_it(url: str) -> None:
    refused("broker_url", url, "CELERY_BROKER_URL in .env or the environment")
    assert "S3" not in broker_refusal(url)
    if url.startswith(("redis", "sentinel")):
        refused("result_backend", url, "CELERY_RESULT_BACKEND in .env", broker_kind="redis")


@pytest.mark.parametrize(
    "url", ["sqs://AKIA:S3cret@", "sqs://AKIA@", "sqs://AKIA:S3/cret@localhost:9324", "sqs://@",
            "sqs://?aws_secret_access_key=S3cret", "SQS://AKIA:S3cret@"],
)  # fmt: skip
def test_the_refusal_of_aws_keys_says_where_to_set_them(url: str) -> None:
    refused("broker_url", url, "AWS_SECRET_ACCESS_KEY in .env or the environment")
    assert "S3" not in broker_refusal(url)


def test_the_refusal_names_the_environment_variable() -> None:
    refused("broker_url", "redis://:x@h", "CELERY_BROKER_URL")


def test_copier_shows_the_refusal(ask: Ask) -> None:
    for url in ("redis://h/abc", "amqp://u:S3cret@h", "", "sentinel://a:1;b"):
        with pytest.raises(ValueError, match="question 'broker_url'") as error:
            ask(broker_url=url)
        assert str(error.value).partition(": ")[2] == broker_refusal(url)
