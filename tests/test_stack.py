"""The container stack of the default answers, built and run for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import run
from stack_contract import NothingLost, UpFromNothing
from stacks import Stack, docker, running

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack as `just up` leaves it on a fresh copy."""
    with running(template, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def trial(stack: Stack) -> Stack:
    stack.try_out()
    return stack


class TestUpFromNothing(UpFromNothing):
    servers = frozenset({"db", "redis"})


class TestImage:
    def test_it_is_small_and_holds_neither_tools_nor_secrets(self, stack: Stack) -> None:
        def size(image: str) -> int:
            return int(docker("image", "inspect", "-f", "{{.Size}}", image))

        assert size(stack.name) - size("python:3.13-slim") < 250_000_000
        absent = "! command -v uv && ! command -v gcc && test ! -e .env && test ! -e .git"
        checks = f'{absent} && test "$(id -u)" = 1000 && test -e staticfiles/staticfiles.json'
        docker("run", "--rm", stack.name, "sh", "-c", checks)


class TestNothingLost(NothingLost):
    broker = "redis"

    def waiting(self, stack: Stack) -> int:
        return int(stack.compose("exec", "-T", "redis", "redis-cli", "llen", "celery"))


class TestLock:
    def test_the_image_follows_the_lock_once_there_is_one(self, stack: Stack) -> None:
        older = "5.2.8"  # the newest is what an image without a lock would get
        run(stack.project, "uv", "lock", "--quiet", "--upgrade-package", f"django=={older}")
        stack.compose("build", "--quiet")
        version = "import django; print(django.__version__)"
        assert docker("run", "--rm", stack.name, "python", "-c", version) == f"{older}\n"
