"""The page of a project in a real browser, while its processes and servers stop and start."""

import signal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from support.browser import SHOWN_TIMEOUT, START_TIMEOUT, Project, card, expect_state

pytestmark = pytest.mark.live("chromium", "pg_ctl")


def test_a_worker_that_stops_is_shown_and_recovers(project: Project, page: Page) -> None:
    project.stop("config worker", signal.SIGTERM)
    expect_state(page, "Worker", "down")
    expect(page.locator(card(page, "Worker"))).to_contain_text("celery -A config worker")
    expect(page.locator("#summary")).to_contain_text("Worker does not work")
    assert Axe().run(page).violations_count == 0
    project.start_again()
    expect_state(page, "Worker", "alive")


def test_a_beat_that_is_killed_is_shown_and_recovers(project: Project, page: Page) -> None:
    project.stop("config beat", signal.SIGKILL)
    expect_state(page, "Beat", "down")
    expect(page.locator(card(page, "Beat"))).to_contain_text("celery -A config beat")
    project.start_again()
    expect_state(page, "Beat", "alive")


def test_a_broker_that_stops_is_shown_and_recovers(project: Project, page: Page) -> None:
    project.broker.end()
    expect_state(page, "Broker", "down")
    expect(page.locator(card(page, "Broker"))).to_contain_text("CELERY_BROKER_URL")
    page.get_by_role("button", name="Run the example task").click()
    expect(page.locator("#outcome")).to_contain_text("Not sent, because the broker")
    project.broker.start()
    expect_state(page, "Broker", "alive")
    expect(page.locator("#summary")).to_contain_text("Everything works", timeout=START_TIMEOUT)


def test_a_database_that_stops_is_shown_and_recovers(project: Project, page: Page) -> None:
    project.database.end(signal.SIGINT)  # PostgreSQL does not wait for its clients
    expect_state(page, "Database", "down")
    expect(page.locator(card(page, "Database"))).to_contain_text("DATABASE_URL")
    expect(page.locator("#summary")).to_contain_text("atabase")
    assert Axe().run(page).violations_count == 0
    project.database.start()
    expect_state(page, "Database", "alive")
    expect(page.locator("#summary")).to_contain_text("Everything works", timeout=START_TIMEOUT)


def test_a_web_process_that_does_not_answer_is_shown(page: Page) -> None:
    page.route("**/?live", lambda _: None)  # the request is never answered
    expect(page.locator("#summary")).to_contain_text("Web does not answer", timeout=SHOWN_TIMEOUT)
    page.unroute_all(behavior="ignoreErrors")
    expect(page.locator("#summary")).to_contain_text("Everything works", timeout=START_TIMEOUT)
