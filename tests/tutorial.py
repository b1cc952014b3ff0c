"""Does what a tutorial in Markdown says, step by step, and compares what it promises.

A fenced block is a step. Its language and attributes say which:

    ```python title="apps/shop/models.py"     write this file; with `append`, add to its end
    ```diff title="config/urls.py"            lines to remove and to add; others say where
    ```console                                commands after "$", each with lines of its output
    ```console fails                          the same, and the commands end with an error
    ```console terminal="dev"                 a command that goes on, in a terminal of that name;
                                              without "$", more lines of it; ^C ends it
    ```text browser="http://…"                open a page, fill in fields by their labels, press
                                              [a button], read lines of the page that follows

Lines of output and of pages have to appear in their order, with anything between them; in a
terminal that goes on, in any order. `...` in a line stands for anything. A block with the word
`docker` is left out.
"""

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

import mechanicalsoup  # type: ignore[import-untyped]

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BUTTON = re.compile(r"^\[(.+)\]$", re.MULTILINE)
TIMEOUT = 900  # seconds for one command: an update checks and tests the whole project
PATIENCE = 120  # seconds for a line to appear


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
    """The tutorial promises what does not happen."""


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


class Reader:
    """Somebody at a machine who follows a tutorial to the letter. Use as a context manager."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        replacements: Mapping[str, str],
    ) -> None:
        """`replacements` are what the reader has in place of what the tutorial names."""
        self.directory = directory
        self.logs = directory
        self.environment = dict(environment)
        self.replacements = replacements
        self.terminals: dict[str, Terminal] = {}
        self.browser = mechanicalsoup.StatefulBrowser(soup_config={"features": "html.parser"})

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        for terminal in self.terminals.values():
            terminal.close()

    def follow(self, block: Block) -> None:
        """Do one step. Raises TutorialError, with the line of the page, where it goes otherwise."""
        if "docker" in block.words:
            return
        try:
            if "title" in block.attributes:
                self._edit(block)
            elif "terminal" in block.attributes:
                self._use_terminal(block)
            elif "browser" in block.attributes:
                self._browse(block)
            elif block.language == "console" and block.words <= {"fails"}:
                self._run(block)
            else:
                raise TutorialError("nobody knows what to do with this block")
        except TutorialError as error:
            raise TutorialError(f"line {block.line}: {error}") from error

    def _here(self, text: str) -> str:
        for old, new in self.replacements.items():
            text = text.replace(old, new)
        return text

    def _edit(self, block: Block) -> None:
        file = self.directory / block.attributes["title"]
        if block.language == "diff":
            file.write_text(patched(file.read_text(encoding="utf-8"), block), encoding="utf-8")
        elif "append" in block.words:
            with file.open("a", encoding="utf-8") as target:
                target.write(f"\n{block.text}")
        elif not file.parent.is_dir():
            raise TutorialError(f"there is no directory for {file}")
        else:
            file.write_text(block.text, encoding="utf-8")

    def _run(self, block: Block) -> None:
        for command, expected in commands(self._here(block.text)):
            if command.startswith("cd "):
                self.directory = (self.directory / command.removeprefix("cd ")).resolve()
                continue
            process = subprocess.run(
                ["sh", "-c", command],
                cwd=self.directory,
                env=self.environment,
                timeout=TIMEOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            )
            if (process.returncode != 0) != ("fails" in block.words):
                raise TutorialError(
                    f"{command!r} ended with code {process.returncode}:\n{process.stdout}"
                )
            if missing := first_missing(expected, plain(process.stdout).splitlines()):
                raise TutorialError(f"{command!r} did not print {missing!r}:\n{process.stdout}")

    def _use_terminal(self, block: Block) -> None:
        name = block.attributes["terminal"]
        lines = self._here(block.text).splitlines()
        if lines[:1] == ["^C"]:
            self.terminals.pop(name).interrupt()
            lines = lines[1:]
        if lines and lines[0].startswith("$ "):
            if name in self.terminals:
                raise TutorialError(f"the terminal {name} is in use")
            log = self.logs / f"{name}-{block.line}.log"
            command = lines[0].removeprefix("$ ")
            self.terminals[name] = Terminal(command, self.directory, self.environment, log)
            lines = lines[1:]
        if lines:
            self.terminals[name].expect(lines)

    def _browse(self, block: Block) -> None:
        address = self._here(block.attributes["browser"])
        self.browser.open(address, timeout=60)
        before, button, after = BUTTON.split(block.text, maxsplit=1)
        fields = [line.split(":", 1) for line in before.splitlines()]
        response = press(self.browser, button, {name: value.strip() for name, value in fields})
        page = re.sub(r"\s+", " ", self.browser.page.get_text(" "))
        if not response.ok:
            raise TutorialError(f"{address} answers {response.status_code}: {page}")
        for line in filter(None, after.splitlines()):
            if "".join(line.split()) not in "".join(page.split()):  # links put blanks between words
                raise TutorialError(f"after [{button}], {address} does not show {line!r}: {page}")


class Terminal:
    """A command that goes on while others run, and what it has printed."""

    def __init__(
        self, command: str, directory: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        self.seen = 0  # lines that the tutorial has spoken of
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
        """Wait until these lines were printed, in any order, as several processes print here.

        Raises TutorialError when one is not.
        """
        deadline = time.monotonic() + PATIENCE
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
        """Press Ctrl-C, and wait for the end. Raises TutorialError when it does not come."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            self.close()
            raise TutorialError("Ctrl-C did not end what ran in the terminal") from error

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a console block with the lines that it has to print."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line != "...":
            found[-1][1].append(line)
    return found


def plain(text: str) -> str:
    """Text without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def matches(expected: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip()) is not None


def first_missing(expected: list[str], printed: list[str]) -> str | None:
    """The first expected line that does not follow those before it; None where all do."""
    rest = iter(printed)
    for line in expected:
        if not any(matches(line, found) for found in rest):
            return line
    return None


def patched(text: str, block: Block) -> str:
    """The text with a diff applied, whose lines say themselves where they belong.

    Raises TutorialError where a line that is to go is not there once.
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
    """Fill in the form that has this button, by the labels of its fields, and press it."""
    for form in browser.page.select("form"):
        for found in form.select("button, input[type=submit]"):
            if button in (found.get("value"), found.get_text(strip=True)):
                browser.select_form(form)
                for label, value in values.items():
                    fill(browser, form, label, value)
                return browser.submit_selected(btnName=found if found.get("name") else None)
    raise TutorialError(f"there is no button {button!r} at {browser.url}")


def fill(browser: Any, form: Any, label: str, value: str) -> None:
    """Give the field with this label a value; one of a list by the words that it shows."""
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
