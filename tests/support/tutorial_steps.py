"""The blocks of a tutorial, and classes and functions that run a block."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WAIT_TIMEOUT = 300  # seconds to wait for a line


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    words: frozenset[str] = frozenset()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class TutorialError(AssertionError):
    """The output differs from the tutorial."""


def blocks(markdown: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(markdown):
        language, rest, text = match.groups()
        words = shlex.split(rest)
        attributes = dict(word.split("=", 1) for word in words if "=" in word)
        plain = frozenset(word for word in words if "=" not in word)
        line = markdown.count("\n", 0, match.start()) + 1
        found.append(Block(language, text, line, attributes, plain))
    return found


class Terminal:
    """A command that runs in the background, and its output."""

    def __init__(
        self, command: str, directory: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        self.seen = 0  # lines that were compared with the tutorial
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def expect(self, lines: list[str]) -> None:
        """Wait until these lines are printed, in any order, because several processes print here.

        Raises TutorialError if a line is not printed.
        """
        deadline = time.monotonic() + WAIT_TIMEOUT
        while True:
            printed = plain(self.log.read_text(encoding="utf-8", errors="replace")).splitlines()
            fresh = printed[self.seen :]
            found = [
                next((at for at, text in enumerate(fresh, 1) if matches(line, text)), 0)
                for line in lines
            ]
            if all(found):
                self.seen += max(found, default=0)
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                missing = lines[found.index(0)]
                raise TutorialError(f"the terminal lacks {missing!r}:\n" + "\n".join(fresh[-80:]))
            time.sleep(0.1)

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until the command exits. Raises TutorialError if it does not."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(WAIT_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            self.close()
            raise TutorialError("Ctrl-C did not end what ran in the terminal") from error

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(WAIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it has to print."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line != "...":
            found[-1][1].append(line)
    return found


def plain(text: str) -> str:
    """The text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def matches(expected: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip()) is not None


def first_missing(expected: list[str], printed: list[str]) -> str | None:
    """The first expected line that is missing or in the wrong order; None if there is none."""
    rest = iter(printed)
    for line in expected:
        if not any(matches(line, found) for found in rest):
            return line
    return None


def patched(text: str, block: Block) -> str:
    """The text with a diff applied. The diff has no line numbers.

    Raises TutorialError if a line of the diff is not in the text exactly once.
    """
    new = text.splitlines()
    known = [line[1:] for line in block.lines if line[:1] != "+"]
    at = new.index(known[0]) if known and new.count(known[0]) == 1 else 0
    for line in block.lines:
        mark, content = line[:1], line[1:]
        if mark == "+":
            new.insert(at, content)
            at += 1
            continue
        if new.count(content) != 1:
            raise TutorialError(f"{content!r} is there {new.count(content)} times, not once")
        at = new.index(content)
        if mark == "-":
            del new[at]
        else:
            at += 1
    return "\n".join(new) + "\n"


def press(browser: Any, button: str, values: Mapping[str, str]) -> Any:
    """Fill in the fields of the form with this button, by their labels, and press the button."""
    for form in browser.page.select("form"):
        for found in form.select("button, input[type=submit]"):
            if button in (found.get("value"), found.get_text(strip=True)):
                browser.select_form(form)
                for label, value in values.items():
                    fill(browser, form, label, value)
                return browser.submit_selected(btnName=found if found.get("name") else None)
    raise TutorialError(f"there is no button {button!r} at {browser.url}")


def fill(browser: Any, form: Any, label: str, value: str) -> None:
    """Set the field with this label. Choose an option of a list by its text."""
    for found in form.select("label[for]"):
        if found.get_text(strip=True).rstrip(":") == label:
            target = form.select_one(f"#{found['for']}")
            break
    else:
        raise TutorialError(f"there is no field {label!r} at {browser.url}")
    if target.name != "select":
        browser[target["name"]] = value
        return
    for option in target.select("option"):
        if option.get_text(strip=True) == value:
            browser[target["name"]] = option["value"]
            return
    raise TutorialError(f"the field {label!r} does not offer {value!r}")
