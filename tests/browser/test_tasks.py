"""Tasks on the page of a project in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from support.browser import SHOWN_TIMEOUT, Project, run_the_example_task
from support.waiting import wait_until

pytestmark = pytest.mark.live("chromium", "pg_ctl")


def test_the_button_shows_a_task_step_by_step_and_keeps_it_in_the_list(page: Page) -> None:
    def shows_the_steps() -> bool:
        """Whether the page shows the steps. It does not wait for late events of a busy worker."""
        run_the_example_task(page)
        steps = page.locator("#steps th").all_inner_texts()
        return steps[:1] + steps[-2:] == ["web to broker", "return the result to web", "total"]

    wait_until(shows_the_steps, "the steps of a task")
    row = page.locator("#tasks li", has_text="example_task").first
    expect(row).to_contain_text("succeeded", timeout=SHOWN_TIMEOUT)
    row.locator("summary").click()
    expect(row.locator("dl")).to_contain_text("Processed: Hello from the page")


NOTE_LIT = """
const lit = [];
new MutationObserver(() => {
  const part = document.querySelector(".part.lit h2")?.textContent;
  if (part && part !== lit.at(-1)) lit.push(part);
  document.documentElement.dataset.lit = lit.join(" ");
}).observe(document.body, { attributes: true, childList: true, subtree: true });
"""


def test_the_picture_lights_up_where_the_task_is(page: Page) -> None:
    def lights_up() -> bool:
        page.reload()
        page.evaluate(NOTE_LIT)
        page.get_by_role("button", name="Run the example task").click()
        expect(page.locator("#run [aria-disabled]")).to_have_count(0)
        expect(page.locator(".part.lit")).to_have_count(0)
        return page.locator("html").get_attribute("data-lit") == "Broker Worker Results Web"

    wait_until(lights_up, "each part lights up in turn, and then none")


def test_a_task_with_markup_in_its_name_and_result_is_harmless(
    project: Project, page: Page
) -> None:
    project.send("tasks.answer_with_markup.delay(1)")
    row = page.locator("#tasks li", has_text="<script>document.title").first
    expect(row).to_be_visible(timeout=SHOWN_TIMEOUT)
    row.locator("summary").click()
    expect(row.locator("dl")).to_contain_text("<img src=x")
    assert page.title() == "The pipeline"
    assert page.locator("img").count() == 0


def test_a_task_that_fails_is_listed_with_its_error(project: Project, page: Page) -> None:
    project.send("tasks.refuse.delay('Hello')")
    row = page.locator("#tasks li", has_text="tasks.refuse").first
    expect(row).to_contain_text("failed", timeout=SHOWN_TIMEOUT)
    row.locator("summary").click()
    expect(row.locator("dl")).to_contain_text("Traceback")
    expect(row.locator("dl")).to_contain_text("no Hello")


def test_a_failed_task_runs_again(project: Project, page: Page) -> None:
    project.send("tasks.refuse.delay('Again')")
    rows = page.locator("#tasks li", has_text="no Again")
    expect(rows).to_have_count(1, timeout=SHOWN_TIMEOUT)
    rows.first.locator("summary").click()
    rows.first.get_by_role("button", name="Run again").click()
    expect(rows).to_have_count(2, timeout=SHOWN_TIMEOUT)
    buttons = rows.get_by_role("button", name="Run again", include_hidden=True)
    expect(buttons).to_have_count(1, timeout=SHOWN_TIMEOUT)  # that of the second failure
    expect(page.locator("#failed")).to_contain_text("not run again")


def test_an_opened_task_shows_its_way_and_leads_to_its_children(
    project: Project, page: Page
) -> None:
    project.send("chain(tasks.add.s(1, 2), tasks.add.s(3)).delay()")
    row = page.locator("#tasks li", has_text="(1, 2)").first
    expect(row).to_contain_text("Child", timeout=SHOWN_TIMEOUT)
    row.locator("summary").click()
    history = row.locator(".history > li")
    expect(history).to_contain_text(["sent to the broker", "taken by", "started in", "finished"])
    row.get_by_role("link", name="apps.tasks.tasks.add").click()
    child = page.locator("#tasks details[open]", has_text="(3, 3)")
    expect(child.locator("dl")).to_be_visible()
    assert page.locator("#workers tbody tr").inner_text().count("apps.tasks.tasks.add") == 1
