"""Longer timeouts for workers. Web processes fail within 3 s: see config/settings/celery.py.

By default kombu waits for a frozen Redis for ever. Seen in kombu 5.7.0 (celery #4296). Keep these
timeouts once fixed, because they are chosen for this project.
"""

from typing import Any

from celery import bootsteps

RETRY_POLICY = {"max_retries": 30, "interval_start": 0, "interval_step": 0.5, "interval_max": 1}


class WorkerTimeouts(bootsteps.Step):
    """Let a worker retry requests to the broker and the result backend for up to 30 s."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        conf = parent.app.conf
        options, results = conf.broker_transport_options, conf.result_backend_transport_options
        sqs = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 3}}
        timeouts: dict[str, Any] = {"socket_timeout": 30, "socket_connect_timeout": 5}
        timeouts |= {"answer_timeout": 30, "client-config": sqs}
        timeouts = {name: value for name, value in timeouts.items() if name in options}
        conf.update(
            broker_connection_timeout=5,
            broker_transport_options=options | timeouts | RETRY_POLICY,
            redis_socket_connect_timeout=5,
            redis_socket_timeout=30,
            result_backend_transport_options=results
            | {"retry_policy": {"timeout": 30, **RETRY_POLICY}},
            task_publish_retry_policy=RETRY_POLICY,
        )
