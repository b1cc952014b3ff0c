"""Follows docs/tutorial.md on a machine without other tools.

The steps with Docker follow where an engine answers.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pytest

from support.bare import bare_environment
from support.git import git
from support.rendering import ROOT
from support.requirements import engine, program
from support.servers import PostgreSQL, free_port
from support.stacks import docker, new_name
from support.tutorial import Reader
from support.tutorial_steps import TutorialError, blocks
from tests.faults.servers import RabbitMQ

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
RELEASE, NEXT = "v99.0.0", "v99.1.0"
"""The version that the tutorial copies, and the version that it updates to."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # PostgreSQL refuses to run as root
        with PostgreSQL(Path(directory) / "postgresql") as server:
            yield server


def publish(place: Path) -> None:
    """Make a release that adds a page."""
    (place / "template/docs/office.md").write_text("# Office\n", encoding="utf-8")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "Docs: a page about the office")
    git(place, "tag", NEXT)


@contextmanager
def walk(
    template: Path,
    root: Path,
    database: str,
    others: Mapping[str, str] = MappingProxyType({}),
    **variables: str,
) -> Iterator[Reader]:
    """Follow the page to its end, on a machine that has these variables; leave out Docker.

    What the environment declares is not declared in the settings besides.
    """
    published = root / "published"
    shutil.copytree(template, published)
    git(published, "tag", RELEASE)
    port = free_port()
    replacements = {
        "path/or/url/of/django-velocity": str(published),
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "postgres://name:password@127.0.0.1:5432/letters": database,
        **others,
    }
    environment = bare_environment(root / "machine") | {"PORT": str(port)} | variables
    (root / "work").mkdir()
    with Reader(root / "work", environment, replacements) as reader:
        for block in blocks(PAGE):
            if "template-update" in block.text:
                publish(published)
            if any(block.text.count(f"+{name} = ") for name in variables):
                continue
            reader.follow(block)
        yield reader


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """A name for the image that the engine has not yet."""
    name = f"{new_name('letters')}:1"
    yield name
    if engine():
        docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def walked(
    template: Path, tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, image: str
) -> Iterator[Reader]:
    root, database = tmp_path_factory.mktemp("walked"), postgresql.database("letters")
    with walk(template, root, database, {"letters:1": image}) as reader:
        yield reader


@pytest.mark.live("pg_ctl")
def test_the_tutorial_works(walked: Reader) -> None:
    project = walked.directory
    assert (project / "docs/office.md").exists()
    assert "CELERY_TASK_QUEUES = " in (project / "config/settings/project.py").read_text()


@pytest.mark.containers
@pytest.mark.live("pg_ctl")
def test_the_image_of_the_tutorial_is_built_and_runs(walked: Reader, image: str) -> None:
    found = program("docker")
    assert found
    Path(walked.environment["PATH"], "docker").symlink_to(found)
    walked.environment |= {k: v for k, v in os.environ.items() if k.startswith("DOCKER_")}
    walked.has_docker = True
    steps = [block for block in blocks(PAGE) if "docker" in block.words]
    assert steps
    for block in steps:
        walked.follow(block)
    assert docker("image", "ls", "--quiet", image)


@pytest.mark.live("pg_ctl", "rabbitmq-server")
def test_the_tutorial_works_on_other_servers_and_queues_with_variables(
    template: Path, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    database = postgresql.database("more_letters")
    with RabbitMQ(tmp_path / "rabbitmq") as broker:
        variables = {
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": broker.url,
            "CELERY_RESULT_BACKEND": "rpc",
            "CELERY_TASK_QUEUES": "mail",
            "CELERY_TASK_ROUTES": "apps.letters.tasks.*=mail",
        }
        in_production = (
            "rediss://:password@redis.",
            "amqps://name:password@rabbitmq.",
        )
        with walk(template, tmp_path, database, dict([in_production]), **variables) as reader:
            settings = (reader.directory / "config/settings/project.py").read_text()
            assert "CELERY_TASK_QUEUES = [Queue" not in settings


def test_a_doctor_is_repeated_until_it_succeeds(tmp_path: Path) -> None:
    [block] = blocks("```console\n$ test -e seen || ! touch seen # doctor\n```\n")
    with Reader(tmp_path, os.environ, {}) as reader:
        reader.follow(block)


@pytest.mark.parametrize(
    "step",
    [
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ printf 'two\\none\\n'\none\ntwo\n```",
        "```console\n$ false\n```",
        "```console fails\n$ true\n```",
        "```console falls\n$ false\n```",
        "```console docker\n$ false\n```",
        '```text title="nowhere/file"\nHello\n```',
        '```console terminal="dev"\n$ echo one\ntwo\n```',
        '```console terminal="dev"\n$ printf "one\\ntwo\\n"\ntwo\n...\none\n```',
    ],
)
def test_a_step_with_another_output_is_an_error(tmp_path: Path, step: str) -> None:
    [block] = blocks(f"{step}\n")
    with Reader(tmp_path, os.environ, {}) as reader:
        reader.has_docker = True
        with pytest.raises(TutorialError, match="line 1: "):
            reader.follow(block)
