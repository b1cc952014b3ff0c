"""The page of a project in a real browser: what it shows, to whom, and by which means."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from support.browser import SHOWN_TIMEOUT, START_TIMEOUT, Project, card, run_the_example_task
from support.waiting import wait_until

pytestmark = pytest.mark.live("chromium", "pg_ctl")

SIZES = {"desk": (1280, 900), "phone": (375, 800), "narrow phone": (320, 640)}


def test_everything_is_alive_and_in_its_place(page: Page) -> None:
    names = page.locator(".part h2").all_inner_texts()
    assert names == ["Web", "Broker", "Worker", "Results", "Beat", "Database"]
    expect(page.locator(".part .mark")).to_have_text(["alive"] * len(names))
    expect(page.locator("#workers tbody th")).to_have_text(re.compile("celery@"))
    expect(page.locator("#schedules")).to_contain_text("Cleanup inactive users")
    expect(page.locator(f"{card(page, 'Beat')}")).to_contain_text("Next: ")


def test_without_javascript_it_is_a_report_with_a_button(
    project: Project, browser: Browser, page: Page
) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.set_default_timeout(START_TIMEOUT)

    def all_are_alive() -> bool:
        plain.goto(project.address)
        return plain.locator(".part .mark").all_inner_texts() == ["alive"] * 6

    wait_until(all_are_alive, "a report that everything is alive")

    def task_has_run() -> bool:
        with plain.expect_navigation():
            plain.get_by_role("button", name="Run the example task").click()
        return plain.locator("#outcome", has_text="Processed: Hello from the page").count() == 1

    wait_until(task_has_run, "the example task runs")
    plain.context.close()


def press_tab_until(page: Page, tag: str) -> None:
    """Move the focus forward to the next element of this kind."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == tag:
            return
    raise AssertionError(f"the keyboard does not reach a {tag}")


def test_the_keyboard_alone_reaches_the_button_and_opens_a_task(page: Page) -> None:
    press_tab_until(page, "BUTTON")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    run_the_example_task(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#tasks summary").first).to_be_visible(timeout=SHOWN_TIMEOUT)
    press_tab_until(page, "SUMMARY")
    page.keyboard.press("Enter")
    opened = page.locator("#tasks details[open]")
    expect(opened).to_have_count(1)
    with page.expect_response(re.compile(r"\?live$")):
        pass
    with page.expect_response(re.compile(r"\?live$")):
        pass
    expect(opened).to_have_count(1)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY", "the focus stays"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_violation_and_nothing_is_cut_off(page: Page, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": height})
    run_the_example_task(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("name", "scheme"), [("page", "light"), ("page-dark", "dark")])
def test_the_picture_of_the_page_is_small(
    page: Page, name: str, scheme: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """With --write-pictures docs/pictures it is the picture in README.md."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 1200, "height": 800})
    run_the_example_task(page)
    page.mouse.move(0, 0)
    directory = pytestconfig.getoption("--write-pictures", None) or tmp_path
    picture = directory / f"{name}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size < 200_000


def test_it_asks_nothing_while_nobody_looks(page: Page) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    page.wait_for_timeout(1000)  # an answer can be on its way
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(6000)
    assert asked == []


def test_a_switch_disables_a_schedule_and_keeps_the_focus(page: Page) -> None:
    switch = page.get_by_role("switch", name="Cleanup inactive users")
    expect(switch).to_be_checked()
    switch.focus()
    page.keyboard.press("Space")
    expect(switch).not_to_be_checked()
    expect(switch).to_be_focused()
    assert Axe().run(page).violations_count == 0
    switch.click()
    expect(switch).to_be_checked()


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_click_counts_if_the_page_is_refreshed_before_its_end(page: Page, by: str) -> None:
    """A refresh replaces the table, because its times change. The switch must stay meanwhile."""
    switch = page.get_by_role("switch", name="Cleanup inactive users")
    expect(switch).to_be_checked()
    switch.hover()
    switch.focus()
    page.mouse.down() if by == "mouse" else page.keyboard.down("Space")
    for _ in range(2):
        with page.expect_response(re.compile(r"\?live$")) as refreshed:
            pass
        refreshed.value.finished()
    page.wait_for_timeout(500)  # the page has shown the answer
    page.mouse.up() if by == "mouse" else page.keyboard.up("Space")
    expect(switch).not_to_be_checked()
    switch.click()
    expect(switch).to_be_checked()


def test_the_switch_works_without_javascript(
    project: Project, browser: Browser, page: Page
) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(project.address)
    switch = plain.get_by_role("switch", name="Cleanup inactive users")
    switch.click()
    expect(switch).not_to_be_checked()
    expect(page.get_by_role("switch", name="Cleanup inactive users")).not_to_be_checked()
    switch.click()
    expect(switch).to_be_checked()
    plain.context.close()
