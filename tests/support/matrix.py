"""The cells of the matrix (broker, result backend, scheduler, database), and their servers."""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from support.projects import BACKENDS, KINDS, SCHEDULERS, URLS, allowed
from support.redis_servers import Redis, sentinels
from support.servers import (
    Certificates,
    MariaDB,
    PostgreSQL,
    RabbitMQ,
    SQSServer,
)
from tests.faults.sentinels import Sentinels


class Cell(NamedTuple):
    """The scheme of the broker URL, two other answers, and the kind of database."""

    broker: str
    backend: str
    scheduler: str
    database: str

    def __str__(self) -> str:
        return "-".join(name.partition("://")[0] + "-url" * ("://" in name) for name in self)

    def pairs(self) -> set[tuple[tuple[str, str], ...]]:
        """All pairs of its answers."""
        return set(combinations(zip(self._fields, self, strict=True), 2))

    def row(self) -> tuple[int, str, str, str, str]:
        """Its index among all cells, and its row of the table."""
        backend = "a Redis by its URL" if "://" in self.backend else self.backend
        return CELLS.index(self), self.broker, backend, self.scheduler, self.database

    def answers(self) -> dict[str, str]:
        return {
            "broker_url": URLS[self.broker],
            "result_backend": self.backend,
            "beat_scheduler": self.scheduler,
        }

    def programs(self) -> list[str]:
        """The servers and programs that this cell needs."""
        names = {
            "redis-server": self.broker.startswith(("redis", "sentinel")) or "://" in self.backend,
            "rabbitmq-server": self.broker.startswith("amqp"),
            "pg_ctl": self.database == "postgres",
            "mariadbd": self.database == "mysql",
        }
        return [name for name, needed in names.items() if needed]


DATABASES = ("sqlite", "postgres", "mysql")

CELLS = [
    Cell(broker, backend, scheduler, DATABASES[(row + column + layer) % len(DATABASES)])
    for (row, broker), (column, backend), (layer, scheduler) in product(
        *map(enumerate[str], (URLS, BACKENDS, SCHEDULERS))
    )
    if allowed(KINDS.get(broker, broker), backend, scheduler)
]
"""All allowed cells. The databases take turns."""


def pairwise(cells: Iterable[Cell]) -> list[Cell]:
    """A few cells that contain all pairs of answers that are in any cell.

    The choice is greedy: the next cell is the one with the most new pairs.
    """
    rest = list(cells)
    missing = set().union(*(cell.pairs() for cell in rest))
    chosen = []
    while missing:
        best = max(rest, key=lambda cell: len(missing & cell.pairs()))
        missing -= best.pairs()
        chosen.append(best)
    return sorted(chosen, key=rest.index)


class Servers:
    """The servers that cells need. A server starts on first use, and stops with the context."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def certificates(self) -> Certificates:
        return Certificates(self.directory / "certificates")

    @cached_property
    def redis(self) -> Redis:
        return self._stack.enter_context(Redis(self.directory / "redis", self.certificates))

    @cached_property
    def sentinels(self) -> Sentinels:
        return self._stack.enter_context(sentinels(self.directory / "sentinels"))

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        return self._stack.enter_context(RabbitMQ(self.directory / "rabbitmq", self.certificates))

    @cached_property
    def sqs(self) -> SQSServer:
        return self._stack.enter_context(SQSServer(self.directory / "sqs"))

    @cached_property
    def postgres(self) -> PostgreSQL:
        return self._stack.enter_context(PostgreSQL(self.directory / "postgres"))

    @cached_property
    def mysql(self) -> MariaDB:
        return self._stack.enter_context(MariaDB(self.directory / "mysql"))

    def variables(self, cell: Cell) -> dict[str, str]:
        """The environment variables for the servers of a cell, with a new database."""
        variables = self._broker(cell.broker)
        if "://" in cell.backend:
            tls = "SSL_CERT_FILE" in variables
            url = self.redis.tls_url if tls else self.redis.url
            variables["CELERY_RESULT_BACKEND"] = f"{url}/3"
        if cell.database != "sqlite":
            server: PostgreSQL | MariaDB = getattr(self, cell.database)
            variables["DATABASE_URL"] = server.database(f"app_{uuid4().hex[:12]}")
        return variables

    def _broker(self, scheme: str) -> dict[str, str]:
        tls = {"SSL_CERT_FILE": str(self.certificates.authority)}
        match scheme:
            case "redis":
                return {"CELERY_BROKER_URL": f"{self.redis.url}/1"}
            case "rediss":
                return {"CELERY_BROKER_URL": f"{self.redis.tls_url}/1"} | tls
            case "redis+socket":
                return {"CELERY_BROKER_URL": f"{self.redis.socket_url}?virtual_host=1"}
            case "sentinel":
                return {"CELERY_BROKER_URL": self.sentinels.url}
            case "amqp":
                return {"CELERY_BROKER_URL": self.rabbitmq.url}
            case "amqps":
                return {"CELERY_BROKER_URL": self.rabbitmq.tls_url} | tls
            case "sqs":
                return {"CELERY_BROKER_URL": self.sqs.url} | self.sqs.client_variables()
        raise ValueError(scheme)
