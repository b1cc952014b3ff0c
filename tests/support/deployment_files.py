"""The Dockerfile, compose files, pipelines and manifests of projects, as data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

EVERY_MONITOR = ["flower", "opentelemetry", "prometheus", "sentry"]
ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "rabbitmq": {
        "broker_url": "amqp://rabbitmq:5672//",
        "beat_scheduler": "file",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
        "ci": "gitlab",
    },
    "two servers": {
        "broker_url": "amqp://rabbitmq:5672//",
        "result_backend": "redis://redis:6379/1",
    },
    "elsewhere": {
        "broker_url": "rediss://shop@cache.example.com/2",
        "result_backend": "rediss://results.example.com:7000/1",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sentinel": {
        "broker_url": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
        "result_backend": "redis",
        "beat_scheduler": "redbeat",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sqs": {"broker_url": "sqs://", "monitoring": EVERY_MONITOR, "kubernetes": True},
    "socket": {
        "broker_url": "redis+socket:///run/redis/redis.sock",
        "kubernetes": True,
        "ci": "none",
    },
}
SERVERS = {
    "defaults": {"redis"},
    "rabbitmq": {"rabbitmq"},
    "two servers": {"rabbitmq", "redis"},
}
"""The servers in the containers, for each project. Other projects use external servers."""

OURS = {"web", "celery-worker", "celery-beat"}
COMPOSE = ("compose.yaml", "compose.production.yaml")

Project = Callable[[str], Path]
"""The type of the fixture `project`, which renders a project of the answers above once."""


def distinct(places: list[Path]) -> list[Path]:
    """One of each group of files or directories with equal contents."""
    found: dict[tuple[str, ...], Path] = {}
    for place in places:
        files = sorted(file for file in [place, *place.rglob("*")] if file.is_file())
        found.setdefault(tuple(file.read_text() for file in files), place)
    return list(found.values())


def files(combinations: list[Path], name: str) -> list[Path]:
    """The files of that name in all combinations, without duplicates."""
    return distinct([project / name for project in combinations if (project / name).exists()])


def services(file: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return loaded


def text(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)
