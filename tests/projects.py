"""Which projects the template can make, and how to run things in one."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

BROKERS = {
    "redis": "redis://redis:6379/0",
    "sentinel": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
    "amqp": "amqp://rabbitmq:5672//",
    "sqs": "sqs://",
}
"""A broker URL of every kind."""

OTHER_BROKERS = [
    "redis://cache.example.com",
    "rediss://cache.example.com:6380/1",
    "redis+socket:///run/redis/redis.sock?virtual_host=2",
    "amqps://shop@mq.example.com:5671/shop",
]
"""A broker URL of every other scheme, and of a server that the stack does not ship."""

URLS = {url.partition("://")[0]: url for url in [*OTHER_BROKERS, *BROKERS.values()]}
"""A broker URL of every scheme."""

KINDS = {"rediss": "redis", "redis+socket": "redis", "amqps": "amqp"}
"""What kind of broker a scheme stands for, where the two differ."""

SPEAKS_REDIS = ("redis", "sentinel")

BACKENDS = ("redis", "django-db", "rpc", "none", "redis://results.example.com:6379/3")

SCHEDULERS = ("database", "redbeat", "file")


def allowed(broker: str, backend: str, scheduler: str) -> bool:
    """Whether the kind of broker can serve the result backend and the scheduler."""
    if scheduler == "redbeat" and broker not in SPEAKS_REDIS:
        return False
    return {"redis": broker in SPEAKS_REDIS, "rpc": broker == "amqp"}.get(backend, True)


COMBINATIONS = [
    {"broker_url": BROKERS[broker], "result_backend": backend, "beat_scheduler": scheduler}
    for broker, backend, scheduler in product(BROKERS, BACKENDS, SCHEDULERS)
    if allowed(broker, backend, scheduler)
] + [{"broker_url": url} for url in OTHER_BROKERS]
"""Every allowed combination of broker kind, result backend and scheduler, as answers."""

_NOT_INHERITED = (
    "CELERY_",
    "COV_",
    "DATABASE_URL",
    "DJANGO_",
    "PYTEST_",
    "RUNTIME_DIR",
    "TIME_ZONE",
)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would leak into a project's commands."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)
    }
    tools = Path(sys.executable).parent
    return kept | {
        "PATH": f"{tools}{os.pathsep}{kept['PATH']}",
        "VIRTUAL_ENV": str(tools.parent),
        **variables,
    }


def run(
    project: Path,
    *command: str,
    timeout: float = 600,
    codes: tuple[int, ...] = (0,),
    **variables: str,
) -> str:
    """Run a command in the project with the template's own environment; return what it printed.

    Raises AssertionError with the output when it ends with another code than these, and
    TimeoutExpired after so many seconds.
    """
    process = subprocess.run(
        command,
        cwd=project,
        env=environment(**variables),
        timeout=timeout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert process.returncode in codes, process.stdout
    return process.stdout


def python_tree(project: Path) -> frozenset[tuple[str, str]]:
    """The Python files of a project: their paths and what is in them."""
    return frozenset(
        (str(file.relative_to(project)), file.read_text(encoding="utf-8"))
        for file in project.rglob("*.py")
    )
