"""A broker that restarts, stops or freezes."""

import json
import signal
import time

import pytest

from tests.faults.harness import ERROR_WITHIN, FULL, RECOVERED_WITHIN, WAIT_TIMEOUT, Row, System
from tests.faults.servers import RabbitMQ, Server, wait_until


@pytest.mark.faults("broker restart while tasks run")
def test_a_broker_restart_loses_no_task(broker: Server, row: Row) -> None:
    restarts = 10 if FULL else 3
    slow = isinstance(broker, RabbitMQ)
    with System(broker, visibility=12) as system:
        worker = system.worker()
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        row.accepted = row.done = 0
        try:
            for restart in range(restarts):
                sent = system.send_through_web("work", restart * 1000, 200)
                row.accepted += len(sent)
                system.wait_more("done", restart * 200 + 60)
                broker.end(signal.SIGKILL if restart % 2 else signal.SIGTERM)
                time.sleep(0 if slow else 1)
                broker.start()
                row.recovered(system.wait_done(sent, RECOVERED_WITHIN))
        finally:
            row.done = len(system.recorded("done"))
            row.injected = f"{restarts} restarts"
            if worker.exits:
                row.injected += f", {len(worker.exits)} workers replaced"
        more = system.send_through_web("work", 100_000, 50)
        system.wait_done(more)


@pytest.mark.faults("broker restart while tasks wait for their time")
def test_a_countdown_outlives_a_broker_restart(broker: Server, row: Row) -> None:
    """The visibility timeout is an hour, so it does not return the messages in this test."""
    countdown = 40
    with System(broker) as system:
        system.worker()
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        # If RabbitMQ 3.10 is killed within a second after a queue was declared, the queue does not
        # work. The first delay declares the queues, and ends before the test continues.
        system.wait_done(first := system.send_through_web("work", 100, 1, countdown=3))
        sent = system.send_through_web("work", 0, 10, countdown=countdown)
        began = time.monotonic()
        if not isinstance(broker, RabbitMQ):  # that keeps them itself
            wait_until(
                lambda: system.unacknowledged() == 10, WAIT_TIMEOUT, "a worker that has them"
            )
        broker.end(signal.SIGKILL)
        broker.start()
        row.injected, row.accepted = "1 restart", len(sent)
        assert system.recorded("done") == first.keys()
        system.wait_done(sent, countdown + RECOVERED_WITHIN)
        row.recovered(time.monotonic() - began - countdown)
        row.done = len(system.recorded("done") & sent.keys())


@pytest.mark.faults("broker unavailable when a view calls .delay(): refused")
def test_the_error_names_a_refused_broker_within_seconds(broker: Server, row: Row) -> None:
    with System(broker) as system:
        system.web()
        system.wait_ready()
        assert system.send_through_web("work", 100, 1)
        broker.end()
        error_names_the_broker(system, row)


@pytest.mark.faults("broker unavailable when a view calls .delay(): frozen")
def test_the_error_names_a_frozen_broker_within_seconds(broker: Server, row: Row) -> None:
    with System(broker) as system:
        system.web()
        system.wait_ready()
        assert system.send_through_web("work", 100, 1)
        broker.send(signal.SIGSTOP)
        error_names_the_broker(system, row)


def error_names_the_broker(system: System, row: Row) -> None:
    """Send three requests, because the first can behave differently from later ones."""
    name, address = "work", f"127.0.0.1:{system.broker.port}"
    row.injected, row.accepted, row.done = "3 requests, /healthz, /readyz", 0, 0
    for request in range(3):
        began = time.monotonic()
        status, answer = system.get(f"/send/{name}/{request}/1")
        row.recovered(time.monotonic() - began)
        assert status == 503
        assert address in json.loads(answer)["error"]
    assert row.seconds is not None
    assert row.seconds < ERROR_WITHIN
    assert system.get("/healthz")[0] == 200
    status, answer = system.get("/readyz")
    assert status == 503
    assert json.loads(answer) == {"database": True, "broker": False}


@pytest.mark.faults("broker returns after an outage: web and worker continue")
def test_web_and_worker_continue_when_the_broker_returns(broker: Server, row: Row) -> None:
    with System(broker, visibility=12) as system:
        system.worker()
        system.web()
        system.wait_ready()
        broker.end()
        row.injected, row.accepted, row.done = "stopped for 10 s", 0, 0
        refused = system.send_through_web("work", 0, 1)
        time.sleep(10)
        broker.start()
        assert refused == {}
        began = time.monotonic()
        sent: dict[str, str] = {}
        while not sent:
            assert time.monotonic() - began < WAIT_TIMEOUT
            sent = system.send_through_web("work", 1, 1)
        row.accepted = len(sent)
        system.wait_done(sent)
        row.recovered(time.monotonic() - began)
        row.done = len(system.recorded("done"))
