"""Failed tasks and periodic tasks in the admin of a project, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from support.browser import SHOWN_TIMEOUT, START_TIMEOUT, Project

pytestmark = pytest.mark.live("chromium", "pg_ctl")

WHO = "an-admin"
SECRET = "long-enough-for-a-test"
SUPERUSER = f"""
from django.contrib.auth import get_user_model
users = get_user_model().objects
users.filter(username={WHO!r}).exists() or users.create_superuser({WHO!r}, password={SECRET!r})
"""

LATER = """

@shared_task
def arrived_later(message: str) -> str:
    return f"known now: {message}"
"""
UNKNOWN = "apps.tasks.tasks.arrived_later"


def visit(admin: Page, address: str) -> None:
    """Open a page, also while the development server starts again after a change of the code."""
    for _ in range(60):
        try:
            admin.goto(address)
        except Error:
            admin.wait_for_timeout(1000)
        else:
            return
    admin.goto(address)


@pytest.fixture
def admin(project: Project, browser: Browser) -> Iterator[Page]:
    """The admin, after a superuser has logged in."""
    project.send(SUPERUSER)
    admin = browser.new_page()
    admin.set_default_timeout(START_TIMEOUT)
    visit(admin, f"{project.address}admin/")
    admin.get_by_label("Username").fill(WHO)
    admin.get_by_label("Password").fill(SECRET)
    admin.get_by_role("button", name="Log in").click()
    expect(
        admin.get_by_role("link", name="Log out").or_(admin.locator("#logout-form"))
    ).to_be_visible()
    yield admin
    admin.close()


def web_starts(project: Project) -> int:
    """How often the development server has started."""
    log = project.dev.log.read_text(errors="replace")
    return log.count("Starting development server")


def failed_row(project: Project, admin: Page, name: str) -> None:
    """Open the list of failed tasks, wait for one of this name, and select it."""
    row = admin.locator("#result_list tbody tr", has_text=name)
    for _ in range(60):
        visit(admin, f"{project.address}admin/pipeline_failed/failedtask/?run_again_as__isempty=1")
        if row.count():
            break
        admin.wait_for_timeout(1000)
    expect(row).to_have_count(1)
    row.locator("input.action-select").check()


def run_again(admin: Page) -> None:
    admin.locator("select[name=action]").select_option("run_again")
    admin.get_by_role("button", name="Go").click()


def test_a_task_whose_process_was_killed_runs_again(
    project: Project, admin: Page, page: Page
) -> None:
    project.send("tasks.die_once.delay('die-once')")
    row = page.locator("#tasks li", has_text="tasks.die_once")
    expect(row.first).to_contain_text("failed", timeout=SHOWN_TIMEOUT)
    failed_row(project, admin, "tasks.die_once")
    expect(admin.locator("#result_list tbody tr", has_text="tasks.die_once")).to_contain_text(
        "process was killed"
    )
    run_again(admin)
    expect(admin.locator(".messagelist")).to_contain_text("Sent apps.tasks.tasks.die_once again")
    expect(row.first).to_contain_text("succeeded", timeout=SHOWN_TIMEOUT)


def test_an_unknown_task_runs_again_once_the_code_knows_it(
    project: Project, admin: Page, page: Page
) -> None:
    # A worker returns an unknown task to its queue 60 times before it keeps it.
    project.send(
        "from celery import current_app; "
        f"current_app.send_task({UNKNOWN!r}, ['good'], headers={{'offers': 59}})"
    )
    failed_row(project, admin, "arrived_later")
    run_again(admin)
    expect(admin.locator(".messagelist")).to_contain_text("Not sent")
    before = web_starts(project)
    with (project.directory / "apps/tasks/tasks.py").open("a") as tasks:
        tasks.write(LATER)
    for _ in range(90):
        if web_starts(project) > before:
            break
        page.wait_for_timeout(1000)
    failed_row(project, admin, "arrived_later")
    run_again(admin)
    expect(admin.locator(".messagelist")).to_contain_text(f"Sent {UNKNOWN} again")
    row = page.locator("#tasks li", has_text="arrived_later").first
    expect(row).to_contain_text("succeeded", timeout=SHOWN_TIMEOUT)


def test_a_periodic_task_that_is_made_in_the_admin_fires(
    project: Project, admin: Page, page: Page
) -> None:
    admin.goto(f"{project.address}admin/django_celery_beat/intervalschedule/add/")
    admin.get_by_label("Number of Periods").fill("1")
    admin.get_by_label("Interval Period").select_option("seconds")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.locator(".messagelist")).to_contain_text("was added successfully")
    admin.goto(f"{project.address}admin/django_celery_beat/periodictask/add/")
    admin.locator("#id_name").fill("Made by hand")
    admin.locator("#id_regtask").select_option("apps.tasks.tasks.add")
    admin.locator("#id_interval").select_option(label="every second")
    admin.locator("summary, h2 a", has_text="Arguments").first.click()
    admin.locator("#id_args").fill("[20, 22]")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.locator(".messagelist")).to_contain_text("was added successfully")
    schedule = page.locator("#schedules tr", has_text="Made by hand")
    expect(schedule).to_contain_text("admin", timeout=SHOWN_TIMEOUT)
    expect(schedule).not_to_contain_text("0 minutes")
    row = page.locator("#tasks li", has_text="[20, 22]").first
    expect(row).to_contain_text("succeeded", timeout=SHOWN_TIMEOUT)
    expect(row).to_contain_text("42")
    project.send(
        "from django_celery_beat.models import PeriodicTask; "
        "PeriodicTask.objects.get(name='Made by hand').delete()"
    )
