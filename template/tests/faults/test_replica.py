"""A Redis that takes no writes, because another one became the primary."""

import time

import pytest
from redis import Redis

from apps.pipeline.broker.embedded import free_port
from tests.faults.harness import RECOVERED_WITHIN, Row, System
from tests.faults.servers import Server


@pytest.mark.faults("a Redis that is a read-only replica for a while")
def test_workers_survive_a_read_only_broker(broker: Server, row: Row) -> None:
    """As after a failover of a managed Redis, whose old address leads to a replica at first."""
    with System(broker, visibility=12) as system, Redis.from_url(broker.url) as redis:
        worker = system.worker()
        system.web()
        system.wait_ready()
        sent = system.send_through_web("work", 0, 200)
        system.wait_more("done", 20)
        redis.replicaof("127.0.0.1", str(free_port()))
        row.injected, row.accepted = "REPLICAOF for 5 s", len(sent)
        time.sleep(5)
        redis.replicaof("NO", "ONE")
        row.recovered(system.wait_done(sent, RECOVERED_WITHIN))
        row.done = len(system.recorded("done"))
        assert worker.exits == []
