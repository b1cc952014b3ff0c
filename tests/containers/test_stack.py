"""The containers of a project with the default answers."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.projects import run
from support.stack_faults import FailureTests, works
from support.stack_start import StartTests
from support.stacks import Stack, docker
from support.waiting import wait_until

pytestmark = pytest.mark.containers


class TestStart(StartTests):
    servers = frozenset({"db", "redis"})


class TestImage:
    def test_the_image_is_small_and_has_no_tools_or_secrets(self, stack: Stack) -> None:
        def size(image: str) -> int:
            return int(docker("image", "inspect", "-f", "{{.Size}}", image))

        assert size(stack.name) - size("python:3.13-slim") < 250_000_000
        absent = "! command -v uv && ! command -v gcc && test ! -e .env && test ! -e .git"
        checks = f'{absent} && test "$(id -u)" = 1000 && test -e staticfiles/staticfiles.json'
        docker("run", "--rm", stack.name, "sh", "-c", checks)


def saving(file: Path, met: Callable[[], bool]) -> Callable[[], bool]:
    """A condition that saves the file again while it is not met.

    Django's reloader misses a change after the import of a file and before its own first look at
    the files, which takes long on a busy machine. Then it shows the old code until the file is
    saved again. Seen in Django 5.2.19.
    """

    def is_met() -> bool:
        if met():
            return True
        time.sleep(5)
        file.touch()
        return False

    return is_met


class TestEditedCode:
    """Edits in the mounted code."""

    def test_edited_code_runs_without_a_restart_by_hand(self, trial: Stack) -> None:
        file = trial.project / "apps" / "trial" / "tasks.py"
        file.write_text(file.read_text().replace('"first"', '"second"'))

        def runs() -> bool:
            trial.python("from apps.trial.tasks import version; version.delay()")
            return any(what == "second" for _, _, what in trial.records("versions"))

        wait_until(runs, "the worker runs the edited task")
        assert trial.containers("celery-worker")[0]["RestartCount"] == 0
        leads = "leads: it sends due tasks"
        wait_until(
            lambda: trial.compose("logs", "celery-beat").count(leads) >= 2, "Beat starts again"
        )

    def test_code_that_does_not_load_is_run_as_soon_as_it_is_corrected(self, trial: Stack) -> None:
        file = trial.project / "apps" / "trial" / "tasks.py"
        whole = file.read_text()

        def says_it(service: str) -> bool:
            return "invalid syntax" in trial.compose("logs", service)

        file.write_text("this is no Python\n")
        try:
            wait_until(lambda: says_it("celery-worker"), "the worker says what is wrong")
            wait_until(saving(file, lambda: says_it("web")), "web says what is wrong")
        finally:
            file.write_text(whole.replace('"second"', '"third"'))
        trial.python("from apps.trial.tasks import version; version.delay()")
        wait_until(
            lambda: any(what == "third" for _, _, what in trial.records("versions")),
            "the worker runs the corrected code",
        )
        wait_until(saving(file, lambda: works(trial)), "the page works")
        # The next check is up to 30 s later, and until then `up --wait` refuses an unhealthy web.
        wait_until(
            lambda: trial.containers("web")[0]["State"]["Health"]["Status"] == "healthy",
            "web is healthy",
        )


class TestFailures(FailureTests):
    broker = "redis"

    def waiting(self, stack: Stack) -> int:
        return int(stack.compose("exec", "-T", "redis", "redis-cli", "llen", "celery"))


class TestLock:
    def test_the_image_follows_the_lock_once_there_is_one(self, stack: Stack) -> None:
        older = "5.2.8"  # without a lock file the image gets the newest version
        run(stack.project, "uv", "lock", "--quiet", "--upgrade-package", f"django=={older}")
        stack.compose("build", "--quiet")
        version = "import django; print(django.__version__)"
        assert docker("run", "--rm", stack.name, "python", "-c", version) == f"{older}\n"
