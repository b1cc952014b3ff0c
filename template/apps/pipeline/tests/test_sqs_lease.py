"""A worker on SQS holds its messages while it renews them. Most tests do not need boto3."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from kombu import Connection
from kombu.asynchronous import Hub, set_event_loop
from kombu.exceptions import OperationalError

from apps.pipeline.broker.sqs import lease

URL = "https://sqs.example.com/1/celery"


class Client:
    """An SQS client that refuses the receipt handles in `refused`."""

    def __init__(self, **refused: dict[str, Any]) -> None:
        self.refused = refused
        self.requests: list[list[str]] = []

    def sqs(self, queue: str) -> "Client":
        return self

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        assert request["QueueUrl"] == URL
        assert {entry["VisibilityTimeout"] for entry in entries} == {lease.SECONDS}
        self.requests.append([entry["ReceiptHandle"] for entry in entries])
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in entries:
            problem = self.refused.get(entry["ReceiptHandle"])
            found = {"Id": entry["Id"], **(problem or {})}
            answer["Failed" if problem else "Successful"].append(found)
        return answer


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    yield
    lease.held.clear()


def hold(*receipts: str, taken: float = 0) -> None:
    """Add messages that were taken so many seconds ago."""
    for receipt in receipts:
        lease.held[receipt] = lease.Held("celery", URL, time.monotonic() - taken)


def test_ten_messages_are_renewed_by_a_request() -> None:
    hold(*(f"receipt-{number}" for number in range(23)), taken=lease.RENEW_AFTER)
    lease.renew(client := Client())
    assert [len(request) for request in client.requests] == [10, 10, 3]
    lease.renew(client)
    assert len(client.requests) == 3, "they were renewed just now"


def test_a_message_that_was_just_taken_needs_no_request() -> None:
    hold("new")
    lease.renew(client := Client())
    assert client.requests == []


def test_the_age_is_that_of_the_oldest_renewal() -> None:
    assert lease.age() == 0
    hold("new")
    hold("old", taken=lease.RENEW_AFTER)
    assert lease.RENEW_AFTER <= lease.age() < lease.SECONDS
    lease.renew(Client())
    assert lease.age() < lease.RENEW_AFTER


def test_a_renewed_message_still_belongs_to_its_worker() -> None:
    hold("old", taken=(lease.RENEW_AFTER + lease.SECONDS) / 2)
    lease.renew(Client())
    assert time.monotonic() - lease.held["old"].since < lease.RENEW_AFTER
    assert lease.release("old")
    assert lease.held == {}


def test_a_message_whose_lease_ended_does_not_belong_to_its_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hold("lost", taken=lease.SECONDS + 1)
    lease.renew(client := Client())
    assert client.requests == [], "SQS might take the renewal for one of its new owner"
    assert not lease.release("lost")
    assert f"The lease on a message of {URL} ended" in caplog.text


def test_a_message_that_sqs_takes_back_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    hold("half a day old", "new", taken=lease.RENEW_AFTER)
    beyond = {"Code": "InvalidParameterValue", "SenderFault": True, "Message": "beyond the limit"}
    lease.renew(client := Client(**{"half a day old": beyond}))
    assert f"This worker has lost its lease on a message of {URL}: beyond the limit" in caplog.text
    hold("new", taken=lease.RENEW_AFTER)
    lease.renew(client)
    assert client.requests[1:] == [["new"]]
    assert not lease.release("half a day old")
    assert lease.release("new")


def test_a_renewal_that_fails_in_sqs_is_tried_again() -> None:
    hold("old", taken=lease.RENEW_AFTER)
    client = Client(old={"Code": "InternalError", "SenderFault": False})
    lease.renew(client)
    client.refused = {}
    lease.renew(client)
    assert client.requests == [["old"], ["old"]]
    assert time.monotonic() - lease.held["old"].since < lease.RENEW_AFTER


def test_an_acknowledged_message_is_not_an_error(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Client):
        def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
            lease.release("done")
            return super().change_message_visibility_batch(**request)

    hold("done", taken=lease.RENEW_AFTER)
    lease.renew(Slow(done={"Code": "ReceiptHandleIsInvalid", "SenderFault": True}))
    assert lease.held == {}
    assert caplog.text == ""


@pytest.mark.parametrize("url", ["amqp://localhost//", "redis://localhost/0"])
def test_other_brokers_have_no_lease(url: str) -> None:
    app: Any = SimpleNamespace(conf=SimpleNamespace(broker_url=url))
    lease.start(app)
    assert not lease.renews()


def test_an_error_response_counts_as_an_outage_of_the_broker() -> None:
    botocore = pytest.importorskip("botocore.exceptions", reason="this project does not use SQS")
    transport = import_module("apps.pipeline.broker.sqs.transport")
    connection: Any = Connection("sqs://", transport=transport.Transport)
    error = botocore.ClientError({"Error": {"Code": "ServiceUnavailable"}}, "SendMessage")
    with pytest.raises(OperationalError), connection._reraise_as_library_errors():
        raise error


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The client of boto3 for all queues."""
    module = "apps.pipeline.broker.sqs.transport"
    sqs = pytest.importorskip(module, reason="this project does not use SQS")
    client = Mock(**{"get_queue_attributes.return_value": {}})
    role = {"Expiration": datetime.now(UTC), "AccessKeyId": "a", "SecretAccessKey": "b"}
    role |= {"SessionToken": "c"}
    monkeypatch.setattr(sqs.Channel, "new_sqs_client", lambda *_, **__: client)
    monkeypatch.setattr(sqs.Channel, "get_sts_credentials", lambda _: role)
    return client


def test_a_worker_that_lost_its_connection_receives_messages(client: Mock) -> None:
    """Each channel of its next connection uses the event loop, which the worker has reset."""
    transport = import_module("apps.pipeline.broker.sqs.transport").Transport
    options = {"predefined_queues": {"celery": {"url": URL}}}
    connection = Connection("sqs://", transport=transport, transport_options=options)
    set_event_loop(hub := Hub())
    hub.reset()
    connection.register_with_event_loop(hub)
    channels: list[Any] = [connection.channel(), connection.channel()]
    assert [channel.hub for channel in channels] == [hub, hub]
    hub.close()


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_receive_request_is_repeated_after_a_second(
    client: Mock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    module = import_module("apps.pipeline.broker.sqs.transport")
    connections = import_module("kombu.asynchronous.aws.sqs.connection")
    answers: list[Any] = []

    def make_request(*_: Any, callback: Any, **__: Any) -> None:
        answers.append(callback)

    monkeypatch.setattr(connections.AsyncSQSConnection, "make_request", make_request)
    options = {"predefined_queues": {"celery": {"url": URL}}, "polling_interval": 0.1}
    connection = Connection("sqs://", transport=module.Transport, transport_options=options)
    set_event_loop(hub := Hub())
    channel: Any = connection.channel()
    channel.hub = Mock()
    channel._active_queues.append("celery")
    channel._schedule_queue("celery")
    body = b'{"__type": "com.amazonaws.sqs#RequestThrottled"}'
    answers[0](Mock(status=status, **{"read.return_value": body}))
    assert "RequestThrottled" in caplog.text
    ((delay, poll), _) = channel.hub.call_later.call_args
    assert delay == 1
    poll()
    channel.hub.call_later.assert_called_with(0.1, channel._schedule_queue, "celery")
    answers[0](Mock(status=status))
    ((_, poll), _) = channel.hub.call_later.call_args
    channel.close()
    poll()  # the channel that has closed asks no more
    assert len(answers) == 1
    hub.close()


@pytest.mark.parametrize("options", [{}, {"sts_role_arn": "a-role"}])
@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("ack", "delete_message"),
        ("reject", "delete_message"),
        ("requeue", "change_message_visibility"),
    ],
)
def test_the_message_of_a_task_that_continues_is_not_returned_until_it_ends(
    client: Mock, options: dict[str, str], way: str, expected: str
) -> None:
    """Then its channel, which has closed, deletes or returns it."""
    transport = import_module("apps.pipeline.broker.sqs.transport").Transport
    queues = {"predefined_queues": {"celery": {"url": URL}}}
    connection = Connection("sqs://", transport=transport, transport_options=queues | options)
    channel: Any = connection.channel()
    channel.exchange_declare("shop")
    channel.queue_bind("celery", "shop", "celery")
    info = {"sqs_message": {"ReceiptHandle": "one"}, "sqs_queue": URL}
    info |= {"exchange": "shop", "routing_key": "celery"}
    properties = {"delivery_tag": "one", "delivery_info": info}
    message = channel.Message({"properties": properties}, channel)
    channel.qos.append(message, "one")
    hold("one")
    channel.keep(message)
    connection.collect()
    channel.keep(message)  # the worker has lost the next connection too
    assert lease.held
    assert not client.method_calls
    getattr(message, way)()
    request = getattr(client, expected).call_args.kwargs
    assert (request["QueueUrl"], request["ReceiptHandle"]) == (URL, "one")
    assert not lease.held
