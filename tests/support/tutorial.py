"""Follows a tutorial in Markdown step by step, and compares the output with the page.

A fenced block is a step. Its language and attributes say which:

    ```python title="apps/shop/models.py"     write this file; with `append`, add to its end
    ```diff title="config/urls.py"            lines to remove and to add, with lines around them
    ```console                                commands after "$", each with lines of its output
    ```console fails                          the same, but the commands have to fail
    ```sh                                     commands without output, which run together
    ```console terminal="dev"                 a command that keeps running in a named terminal;
                                              without "$", more lines of its output; ^C stops it
    ```text browser="http://…"                open a page, fill in fields by their labels, press
                                              [a button], and compare lines of the next page

The lines of output and pages have to appear in order, with any lines between them. The lines of a
running command can appear in any order, but those below a line `...` after those above it. In a
line `...` matches anything. A block with the word `docker` is skipped without Docker. A `doctor`
and the button of the status page are repeated until they succeed, because a worker can be slow.
"""

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import mechanicalsoup  # type: ignore[import-untyped]
import requests

from support.tutorial_steps import (
    WAIT_TIMEOUT,
    Block,
    Terminal,
    TutorialError,
    commands,
    first_missing,
    patched,
    plain,
    press,
)

BUTTON = re.compile(r"^\[(.+)\]$", re.MULTILINE)
REPEATED = re.compile(r"^\$ .*\bdoctor$|^\[Run the example task\]$", re.MULTILINE)
TIMEOUT = 900  # seconds for one command: an update checks and tests the whole project


class Reader:
    """Runs the steps of a tutorial. Use it as a context manager."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        replacements: Mapping[str, str],
    ) -> None:
        """`replacements` are texts of the tutorial with the texts to use instead."""
        self.directory = directory
        self.logs = directory
        self.environment = dict(environment)
        self.replacements = replacements
        self.has_docker = False
        self.terminals: dict[str, Terminal] = {}
        self.browser = mechanicalsoup.StatefulBrowser(soup_config={"features": "html.parser"})

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        for terminal in self.terminals.values():
            terminal.close()

    def follow(self, block: Block) -> None:
        """Run one step. Raises TutorialError with the line of the page if the output differs."""
        if "docker" in block.words and not self.has_docker:
            return
        deadline = time.monotonic() + WAIT_TIMEOUT
        while True:
            try:
                self._follow(block)
            except TutorialError as error:
                if not REPEATED.search(block.text) or time.monotonic() > deadline:
                    raise TutorialError(f"line {block.line}: {error}") from error
                time.sleep(0.5)
            else:
                return

    def _follow(self, block: Block) -> None:
        if "title" in block.attributes:
            self._edit(block)
        elif "terminal" in block.attributes:
            self._use_terminal(block)
        elif "browser" in block.attributes:
            self._browse(block)
        elif block.language == "sh" and not block.words:
            self._command(block.text, fails=False)
        elif block.language == "console" and block.words <= {"docker", "fails"}:
            self._run(block)
        else:
            raise TutorialError(
                "this block is not of a known kind: see the docstring of support/tutorial.py"
            )

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
            printed = self._command(command, fails="fails" in block.words)
            if missing := first_missing(expected, plain(printed).splitlines()):
                raise TutorialError(f"{command!r} did not print {missing!r}:\n{printed}")

    def _command(self, command: str, *, fails: bool) -> str:
        """Run a command. Return its output. Raises TutorialError if it does not end as expected."""
        process = subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=self.directory,
            env=self.environment,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if (process.returncode != 0) != fails:
            raise TutorialError(
                f"{command!r} ended with code {process.returncode}:\n{process.stdout}"
            )
        return process.stdout

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
        for group in re.split(r"^\.\.\.\n", "".join(f"{line}\n" for line in lines), flags=re.M):
            if group:
                self.terminals[name].expect(group.splitlines())

    def _browse(self, block: Block) -> None:
        address = self._here(block.attributes["browser"])
        self._open(address)
        before, button, after = BUTTON.split(block.text, maxsplit=1)
        fields = [line.split(":", 1) for line in before.splitlines()]
        response = press(self.browser, button, {name: value.strip() for name, value in fields})
        page = re.sub(r"\s+", " ", self.browser.page.get_text(" "))
        if not response.ok:
            raise TutorialError(f"{address} answers {response.status_code}: {page}")
        for line in filter(None, after.splitlines()):
            if "".join(line.split()) not in "".join(page.split()):  # links add spaces between words
                raise TutorialError(f"after [{button}], {address} does not show {line!r}: {page}")

    def _open(self, address: str) -> None:
        """Open a page, and try again while nothing listens there: a server may be starting."""
        deadline = time.monotonic() + WAIT_TIMEOUT
        while True:
            try:
                self.browser.open(address, timeout=120)
            except requests.ConnectionError as error:
                if time.monotonic() > deadline:
                    raise TutorialError(f"nothing answers at {address}") from error
                time.sleep(0.5)
            else:
                return
