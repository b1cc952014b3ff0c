"""The schedulers that Beat may run: the libraries' own, each with a heartbeat."""

from typing import Any

from celery.beat import Scheduler

from apps.pipeline import heartbeat


class Heartbeat(Scheduler):
    """Mixed in before a scheduler: leaves a heartbeat at every tick, at most 5 s apart."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        delay = super().tick(*args, **kwargs)
        heartbeat.beat("beat")
        return delay

    def close(self) -> None:
        heartbeat.stop("beat")
        super().close()
