"""The commands of the README, on a machine that has only Python, pip and git."""

import http.cookiejar
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest

from support.git import git
from support.rendering import ANSWERS, ROOT
from support.stacks import has_run
from support.waiting import wait_until

DEMO, TESTS = re.findall(r"^python3 -m pip install .*$", (ROOT / "README.md").read_text(), re.M)
WAIT_TIMEOUT = 300  # seconds; benchmarks measure the target of 90 s on an idle machine


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with only Python, pip and git, and an empty home."""
    root = tmp_path_factory.mktemp("bare")
    (root / "bin").mkdir()
    (root / "home").mkdir()
    for name, target in {
        "python3": str(Path(sys.base_prefix) / "bin" / "python3"),
        "git": shutil.which("git"),
    }.items():
        assert target
        (root / "bin" / name).symlink_to(target)
    kept = {
        name: value
        for name, value in os.environ.items()
        if re.match(
            r"PIP_|SSL_|.*_PROXY$|.*_proxy$|LANG|LC_|TMPDIR|UV_DEFAULT_INDEX|UV_INDEX", name
        )
    }
    return kept | {"HOME": str(root / "home"), "PATH": f"{root / 'bin'}:/usr/bin:/bin"}


def processes() -> dict[int, tuple[int, str]]:
    """The parent and the command line of each process, without zombies."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if not row[2].startswith("Z")}


def started_by(ancestor: int) -> dict[int, str]:
    """The process and its descendants, with their command lines."""
    rows = processes()
    found = {ancestor}
    while more := {pid for pid, (parent, _) in rows.items() if parent in found} - found:
        found |= more
    return {pid: rows[pid][1] for pid in found & rows.keys()}


@pytest.fixture
def demo(
    template: Path, tmp_path: Path, bare: dict[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The process of the README's first command in a new clone, and the file of its output."""
    git(tmp_path, "clone", "--quiet", str(template), "clone")
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S602 - a person types it into a shell
            DEMO,
            shell=True,
            cwd=tmp_path / "clone",
            env=bare,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=120)


def wait_for(what: str, output: Path) -> str:
    """Wait until the output matches, and return the first group of the match."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while time.monotonic() < deadline:
        if found := re.search(what, output.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(output.read_text(errors="replace"))


def press_the_button(browser: OpenerDirector, page: str) -> str:
    """Load the page, press its button, and return the new page."""
    html = browser.open(page, timeout=120).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html)
    assert token, html
    form = urlencode({"csrfmiddlewaretoken": token[1]}).encode()
    answer: str = browser.open(page, data=form, timeout=120).read().decode()
    return answer


def test_the_first_command_serves_a_page_that_runs_a_task_and_ends_with_ctrl_c(
    demo: tuple["subprocess.Popen[bytes]", Path],
) -> None:
    process, output = demo
    page = wait_for(r"Starting development server at (http://127\.0\.0\.1:\d+/)", output)
    wait_for(r"(celery@\S+ ready)", output)
    browser = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
    wait_until(lambda: has_run(press_the_button(browser, page)), "the page runs a task")

    started = started_by(process.pid)
    for part in ("-server 127.0.0.1:", "runserver", "celery -A config worker", "config beat"):
        assert any(part in command for command in started.values()), part
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    process.wait(timeout=120)
    deadline = time.monotonic() + 120
    while (left := started.keys() & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_the_second_command_is_what_ci_runs() -> None:
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_question_is_in_the_readme_s_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert rows == [name for name in ANSWERS if name != "sentinel_master"]
