"""Runs git and Copier on this project, for template.py. It imports only the standard library."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parent.parent
ANSWERS = ".copier-answers.yml"
COPIER = "copier>=9.15.1,<10"

# With other values Copier loses edits: `git apply` refuses lines with spaces at their ends,
# `git status` does not show the files of a conflict, or `git diff` shows no lines of files with the
# attribute `-diff`. Hooks are for the user's commits. One that fails would stop Copier.
GIT_SETTINGS = {"apply.whitespace": "nowarn", "status.showUntrackedFiles": "normal"}
GIT_SETTINGS |= {"core.attributesFile": os.devnull, "core.hooksPath": os.devnull}


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def uv() -> str | None:
    """The uv that runs this program, or the uv on PATH."""
    return os.environ.get("UV") or shutil.which("uv")


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout


def ignored() -> list[str]:
    """The tracked files that the user's own ignore file matches, each with its pattern.

    Copier's temporary copies do not have these files, so it loses edits in them. Seen in copier
    9.19.1 (not reported yet). Delete this once fixed.
    """
    names = git("ls-files", "--cached", "--ignored", "--exclude-standard", "-z").split("\0")[:-1]
    found = git("check-ignore", "--no-index", "--verbose", "--", *names) if names else ""
    lines = [line.replace("\t", " matches ") for line in found.splitlines()]
    return [line for line in lines if Path(line).is_absolute()]  # .gitignore has a relative path


def hidden() -> list[str]:
    """The files whose changes `git status` does not show, because of `git update-index`."""
    lines = git("ls-files", "-v", "-z").split("\0")[:-1]
    return [line[2:] for line in lines if line[0] in "hsS" and (PROJECT / line[2:]).exists()]


def answer(name: str) -> str:
    """The value of a name in the answers file; empty if the file does not have it."""
    if not (PROJECT / ANSWERS).exists():
        fail(f"Restore {ANSWERS} from git.")
    text = (PROJECT / ANSWERS).read_text(encoding="utf-8")
    if re.search("^<<<<<<< ", text, re.MULTILINE):
        fail(f"Resolve the conflict in {ANSWERS}, and commit.")
    found = re.search(rf"^{name}:[ ]*(.*?)[ ]*$", text, re.MULTILINE)
    return found[1].strip("'\"") if found else ""


def copied_from() -> Path:
    """The directory in which Copier has to run to find the template at `_src_path`.

    A relative path is relative to the directory where `copier copy` ran. This is one of the
    directories above the project. Copier looks from the current directory. Seen in copier 9.19.1
    (not reported yet). Delete this once fixed.
    """
    source = answer("_src_path")
    if re.match(r"/|~|.+:", source):
        return PROJECT
    for directory in PROJECT.parents:
        if source and (directory / source / "copier.yml").is_file():
            return directory
    fail(
        f"There is no template at the relative path {source}. Write the URL or the absolute path "
        f"of the template at _src_path in {ANSWERS}, and commit."
    )


def copier(*arguments: str) -> str:
    """Run Copier on the project and return its output. Exit with its error if it fails."""
    directory = copied_from()
    if found := uv():
        command = [found, "tool", "run", "--quiet", "--from", COPIER, "copier"]
    elif found := shutil.which("copier"):
        command = [found]
    else:
        fail("Install uv, which runs Copier: https://docs.astral.sh/uv/")
    is_stopped: list[object] = []
    # On Ctrl-C Copier stops first. Python would kill it, and not wait for its end.
    before = signal.signal(signal.SIGINT, lambda *_: is_stopped.append(True))
    process = subprocess.run(
        [*command, *arguments, os.path.relpath(PROJECT, directory)],
        cwd=directory,
        env=git_environment(),
        capture_output=True,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    if is_stopped:
        fail("Copier was stopped.")
    if process.returncode:
        if refused := re.search(r"error for question '(\w+)': (.*)", process.stderr, re.DOTALL):
            advice = ". ".join(refused[2].rstrip(".\n").split("\n"))
            fail(f"Correct {refused[1]} in {ANSWERS}, and commit. {advice}.")
        if subprocess.run([*command, "--version"], capture_output=True).returncode:
            fail(f"uv cannot download Copier. Check the network. {reason(process.stderr)}")
        fail(
            f"The template cannot be used: {reason(process.stderr)} "
            f"Look at _src_path and _commit in {ANSWERS}."
        )
    return process.stdout


def git_environment() -> dict[str, str]:
    """The environment with GIT_SETTINGS, after the settings that it may have."""
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    environment = {"GIT_CONFIG_COUNT": str(first + len(GIT_SETTINGS))}
    for number, (name, value) in enumerate(GIT_SETTINGS.items(), first):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return {**os.environ, **environment}


def reason(errors: str) -> str:
    """The error message of Git or Copier."""
    fatal = re.search(r"fatal: (.*)", errors)
    lines = [line for line in errors.splitlines() if line.strip()] or [""]
    return str(fatal[1]) if fatal else re.sub(r"^[A-Za-z.]*(Error|Exception): ", "", lines[-1])
