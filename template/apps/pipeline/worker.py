"""What this project adds to Celery's worker; `config/celery.py` names it."""

from typing import Any

from celery import bootsteps

from apps.pipeline import heartbeat


class Heartbeat(bootsteps.StartStopStep):
    """Touches a file from the worker's event loop as long as it has a connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        heartbeat.beat("worker")
        self.timer = parent.timer.call_repeatedly(heartbeat.INTERVAL, heartbeat.beat, ("worker",))

    def stop(self, parent: Any) -> None:
        self.timer.cancel()
        heartbeat.stop("worker")
