"""The projects that the template can make, and functions to run commands in a project."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

from support.git import git

BROKERS = {
    "redis": "redis://redis:6379/0",
    "sentinel": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
    "amqp": "amqp://rabbitmq:5672//",
    "sqs": "sqs://",
}
"""A broker URL for each kind."""

OTHER_BROKERS = [
    "redis://cache.example.com",
    "rediss://cache.example.com:6380/1",
    "redis+socket:///run/redis/redis.sock?virtual_host=2",
    "amqps://shop@mq.example.com:5671/shop",
]
"""Broker URLs with the other schemes, and one of a server outside of the containers."""

URLS = {url.partition("://")[0]: url for url in [*OTHER_BROKERS, *BROKERS.values()]}
"""A broker URL for each scheme."""

KINDS = {"rediss": "redis", "redis+socket": "redis", "amqps": "amqp"}
"""The kinds of the schemes whose kind has another name."""

REDIS_KINDS = ("redis", "sentinel")
"""The kinds of brokers that are a Redis."""

BACKENDS = ("redis", "django-db", "rpc", "none", "redis://results.example.com:6379/3")

SCHEDULERS = ("database", "redbeat", "file")


def allowed(broker: str, backend: str, scheduler: str) -> bool:
    """Whether the result backend and the scheduler work with this kind of broker."""
    if scheduler == "redbeat" and broker not in REDIS_KINDS:
        return False
    return {"redis": broker in REDIS_KINDS, "rpc": broker == "amqp"}.get(backend, True)


COMBINATIONS = [
    {"broker_url": BROKERS[broker], "result_backend": backend, "beat_scheduler": scheduler}
    for broker, backend, scheduler in product(BROKERS, BACKENDS, SCHEDULERS)
    if allowed(broker, backend, scheduler)
] + [{"broker_url": url} for url in OTHER_BROKERS]
"""The answers of all allowed combinations of broker kind, result backend and scheduler."""

_NOT_INHERITED = (
    "CELERY_",
    "COV_",
    "DATABASE_URL",
    "DJANGO_",
    "PYTEST_",
    "RUNTIME_DIR",
    "TIME_ZONE",
)

SUITE_TIMEOUT = 1400
"""The seconds for a whole suite of tests, which are fewer than pytest gives to a test here."""

TOOL_FILES = [".git", "__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"]
"""Files and directories that tools create."""


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process, without variables that would affect a project's commands."""
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
    """Run a command in the project with the virtual environment of the template. Return its output.

    Raises AssertionError with the output if the exit code is not one of `codes`, and TimeoutExpired
    after `timeout` seconds.
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


def in_own_environment(project: Path, *command: str) -> str:
    """Run a command with `uv run`, in an environment of the project's own."""
    return run(project, "uv", "run", *command, timeout=SUITE_TIMEOUT, VIRTUAL_ENV="")


def python_tree(project: Path) -> frozenset[tuple[str, str]]:
    """The Python files of a project: paths and contents."""
    return frozenset(
        (str(file.relative_to(project)), file.read_text(encoding="utf-8"))
        for file in project.rglob("*.py")
    )


def commit(project: Path, message: str = "As it is") -> Path:
    """Commit all files of the project. Create a repository if there is none."""
    if not (project / ".git").exists():
        git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)
    return project


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new), encoding="utf-8")


def write(project: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, encoding="utf-8")


def tree(project: Path) -> dict[str, bytes]:
    """The files of the project, without those of git and tools."""
    return {
        file.relative_to(project).as_posix(): file.read_bytes()
        for file in project.rglob("*")
        if file.is_file() and not set(file.relative_to(project).parts) & set(TOOL_FILES)
    }
