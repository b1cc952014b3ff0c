"""A project and its page, and an option that writes the pictures of README.md."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.browser import START_TIMEOUT, TASKS, Project
from support.rendering import render
from support.requirements import program
from support.stacks import free_port
from support.waiting import wait_until
from tests.faults.servers import PostgreSQL, Valkey

expect.set_options(timeout=90_000)  # Playwright's default is 5 s, and a task runs meanwhile


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-pictures",
        type=Path,
        metavar="DIRECTORY",
        help="write the pictures of the page, as docs/pictures has them, to this directory",
    )


@pytest.fixture(scope="session")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("browser")
    project = render(template, directory / "project", result_backend="django-db")
    with (project / "apps/tasks/tasks.py").open("a") as tasks:
        tasks.write(TASKS)
    with TemporaryDirectory(prefix="servers-") as servers:
        Path(servers).chmod(0o755)  # root starts PostgreSQL as another user
        with (
            Valkey(Path(servers) / "broker") as broker,
            PostgreSQL(Path(servers) / "database") as database,
        ):
            yield from _running(project, broker, database)


def _running(project: Path, broker: Valkey, database: PostgreSQL) -> Iterator[Project]:
    running = Project(project, broker, database, free_port())
    try:
        running.dev.expect(["...celery@... ready.", "...leads: it sends due tasks"])
        wait_until(running.answers, "the web process answers")
        yield running
    finally:
        running.dev.close()
        print(running.dev.log.read_text(errors="replace")[-6000:])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])


@pytest.fixture
def page(project: Project, browser: Browser) -> Iterator[Page]:
    """The page, when everything works. An error in the console fails the test."""
    page = browser.new_page()
    page.set_default_timeout(START_TIMEOUT)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(project.address)
    expect(page.locator("#summary")).to_contain_text("Everything works", timeout=START_TIMEOUT)
    yield page
    page.close()
    assert errors == []
