"""The cells of broker, result backend, scheduler and database, and a project at work in one."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from projects import BACKENDS, KINDS, SCHEDULERS, URLS, allowed, environment, run
from rendering import ROOT, render
from servers import (
    Certificates,
    MariaDB,
    PostgreSQL,
    RabbitMQ,
    Redis,
    Sentinels,
    Simulator,
    leashed,
)

PATIENCE = 300  # seconds for what takes a few, on a machine that is very busy


class Cell(NamedTuple):
    """Answers of the template, by the scheme of the broker's URL, and the kind of database."""

    broker: str
    backend: str
    scheduler: str
    database: str

    def __str__(self) -> str:
        return "-".join(name.partition("://")[0] + "-url" * ("://" in name) for name in self)

    def pairs(self) -> set[tuple[tuple[str, str], ...]]:
        """Every two of the answers."""
        return set(combinations(zip(self._fields, self, strict=True), 2))

    def row(self) -> tuple[int, str, str, str, str]:
        """Its place among all cells, and its line of the table."""
        backend = "a Redis by its URL" if "://" in self.backend else self.backend
        return CELLS.index(self), self.broker, backend, self.scheduler, self.database

    def answers(self) -> dict[str, str]:
        return {
            "broker_url": URLS[self.broker],
            "result_backend": self.backend,
            "beat_scheduler": self.scheduler,
        }

    def programs(self) -> list[str]:
        """What has to be installed for the servers of this cell."""
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
"""Every allowed cell, on databases in turn."""


def pairwise(cells: Iterable[Cell]) -> list[Cell]:
    """Few of the cells, in which every two answers that meet in any cell meet.

    Greedily: next comes the cell that brings the most pairs that were not there yet.
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
    """Every server that a cell may need, started when first needed; a context ends them."""

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
        return self._stack.enter_context(Sentinels(self.directory / "sentinels"))

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        return self._stack.enter_context(RabbitMQ(self.directory / "rabbitmq", self.certificates))

    @cached_property
    def sqs(self) -> Simulator:
        return self._stack.enter_context(Simulator(self.directory / "sqs"))

    @cached_property
    def postgres(self) -> PostgreSQL:
        return self._stack.enter_context(PostgreSQL(self.directory / "postgres"))

    @cached_property
    def mysql(self) -> MariaDB:
        return self._stack.enter_context(MariaDB(self.directory / "mysql"))

    def variables(self, cell: Cell) -> dict[str, str]:
        """What a user of such servers writes into the environment, with a database that is new."""
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


class Project:
    """A rendered project with the probe's app in it, as a user adds one, and its environment."""

    def __init__(self, template: Path, directory: Path, cell: Cell, **variables: str) -> None:
        self.directory = render(template, directory, **cell.answers())
        self.variables = {
            "PROBE_NOTES": str(directory.with_suffix(".notes")),
            "PROBE_WORD": f"tick of {directory}",
            **variables,
        }
        shutil.copytree(ROOT / "tests" / "probe", directory / "apps" / "probe")
        self.add("config/settings/base.py", 'INSTALLED_APPS += ["apps.probe"]')
        if cell.database == "mysql":
            self.add("config/__init__.py", "import pymysql; pymysql.install_as_MySQLdb()")

    def add(self, file: str, line: str) -> None:
        """Add a line to a file of the project, as a user does."""
        with (self.directory / file).open("a") as text:
            text.write(f"\n{line}\n")

    def run(self, *command: str, codes: tuple[int, ...] = (0,), **variables: str) -> str:
        """Run a command in the project's environment; see `projects.run`."""
        return run(self.directory, *command, codes=codes, timeout=600, **self.variables | variables)

    def done(self) -> set[str]:
        """The ids of the tasks that were done."""
        notes = Path(self.variables["PROBE_NOTES"])
        lines = notes.read_text().splitlines() if notes.exists() else []
        return {json.loads(line)[0] for line in lines}

    def log(self, process: str) -> str:
        """What worker or Beat have said."""
        return self._log(process).read_text(errors="replace")

    def _log(self, process: str) -> Path:
        return self.directory.with_suffix(f".{process}.log")

    @contextmanager
    def started(self, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command beside the test, which has to end well when it is told to end."""
        with self._log(command[3]).open("ab") as output:
            process = subprocess.Popen(
                leashed([*command]),
                cwd=self.directory,
                env=environment(**self.variables),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
            process.terminate()
            assert process.wait(PATIENCE) == 0, f"{command} ends with {process.returncode}"
        except BaseException as error:
            error.add_note(f"{' '.join(command)}:\n{self.log(command[3])[-8000:]}")
            raise
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Worker and Beat run, started as the docs say; they have to end well."""
        with (
            self.started("celery", "-A", "config", "worker", "-l", "info"),
            self.started("celery", "-A", "config", "beat", "-l", "info"),
        ):
            yield
