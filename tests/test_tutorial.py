"""docs/tutorial.md, followed to the letter on a machine that has nothing else.

The image is left out: tests/test_stack_production.py builds it.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pytest
from bare import bare_environment
from conftest import git
from rendering import ROOT
from servers import PostgreSQL, free_port
from tests.faults.servers import RabbitMQ
from tutorial import Reader, TutorialError, blocks

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
RELEASE, NEXT = "v99.0.0", "v99.1.0"
"""What the reader copies, and what comes out before the tutorial asks for an update."""


@pytest.fixture
def published(template: Path, tmp_path: Path) -> Path:
    """The template as people find it, with one release."""
    place = tmp_path / "published"
    shutil.copytree(template, place)
    git(place, "tag", RELEASE)
    return place


def publish(place: Path) -> None:
    """A release with a page more."""
    (place / "template/docs/office.md").write_text("# Office\n", encoding="utf-8")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "Docs: a page about the office")
    git(place, "tag", NEXT)


@pytest.fixture
def database() -> Iterator[str]:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # PostgreSQL refuses to run as root
        with PostgreSQL(Path(directory) / "postgresql") as server:
            yield server.database("letters")


def walk(
    published: Path,
    tmp_path: Path,
    database: str,
    others: Mapping[str, str] = MappingProxyType({}),
    **variables: str,
) -> None:
    port = free_port()
    replacements = {
        "path/or/url/of/django-velocity": str(published),
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "postgres://name:password@127.0.0.1:5432/letters": database,
        **others,
    }
    environment = bare_environment(tmp_path / "machine") | {"PORT": str(port)} | variables
    (tmp_path / "work").mkdir()
    with Reader(tmp_path / "work", environment, replacements) as reader:
        for block in blocks(PAGE):
            if "template-update" in block.text:
                publish(published)
            reader.follow(block)


@pytest.mark.live("pg_ctl")
def test_the_tutorial_holds(published: Path, tmp_path: Path, database: str) -> None:
    walk(published, tmp_path, database)


@pytest.mark.live("pg_ctl", "rabbitmq-server")
def test_the_tutorial_holds_on_other_servers_by_environment_alone(
    published: Path, tmp_path: Path, database: str
) -> None:
    with RabbitMQ(tmp_path / "rabbitmq") as broker:
        variables = {
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": broker.url,
            "CELERY_RESULT_BACKEND": "rpc",
        }
        in_production = (
            "rediss://:password@redis.",
            "amqps://name:password@rabbitmq.",
        )
        walk(published, tmp_path, database, dict([in_production]), **variables)


@pytest.mark.parametrize(
    "step",
    [
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ printf 'two\\none\\n'\none\ntwo\n```",
        "```console\n$ false\n```",
        "```console fails\n$ true\n```",
        "```console falls\n$ false\n```",
        '```text title="nowhere/file"\nHello\n```',
        '```console terminal="dev"\n$ echo one\ntwo\n```',
    ],
)
def test_a_step_that_goes_otherwise_is_told(tmp_path: Path, step: str) -> None:
    [block] = blocks(f"{step}\n")
    with (
        Reader(tmp_path, os.environ, {}) as reader,
        pytest.raises(TutorialError, match="line 1: "),
    ):
        reader.follow(block)
