"""How this project gets the template's improvements; the recipes of the justfile run it.

    status   say whether the template has a newer version
    merge    bring the newest version in, and end with an error where a file needs a person
    update   the same, and then `just check` and `just test`
    version  print the version of the template that the project has

It needs git and uv, or git and Copier, and no package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parent.parent
ANSWERS = ".copier-answers.yml"
CHANGELOG = "docs/template-changelog.md"
COPIER = "copier>=9.15.1,<10"


def fail(words: str) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(1)


def uv() -> str | None:
    """The uv that runs this, or the one on PATH."""
    return os.environ.get("UV") or shutil.which("uv")


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout


def answer(name: str) -> str:
    """A line of the answers file; empty where it has none."""
    text = (PROJECT / ANSWERS).read_text(encoding="utf-8")
    found = re.search(rf"^{name}:[ ]*(.*?)[ ]*$", text, re.MULTILINE)
    return found[1].strip("'\"") if found else ""


def copied_from() -> Path:
    """The directory in which Copier finds the template that `_src_path` names.

    A relative path is one from where `copier copy` was run: some directory above the project.
    """
    source = answer("_src_path")
    if re.match(r"/|~|.+:", source):
        return PROJECT
    for directory in PROJECT.parents:
        if source and (directory / source / "copier.yml").is_file():
            return directory
    fail(
        f"The project was copied from the relative path {source}: it is not there. Write the "
        f"template's URL or whole path at _src_path in {ANSWERS}, and commit."
    )


def copier(*arguments: str) -> str:
    """Run Copier on the project and return what it prints, or end with its reason."""
    directory = copied_from()
    if found := uv():
        command = [found, "tool", "run", "--quiet", "--from", COPIER, "copier"]
    elif found := shutil.which("copier"):
        command = [found]
    else:
        fail("There is no uv here to run Copier: python3 -m pip install uv")
    process = subprocess.run(
        [*command, *arguments, os.path.relpath(PROJECT, directory)],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        fatal = re.findall(r"fatal: (.*)", process.stderr)
        lines = [line for line in process.stderr.splitlines() if line.strip()] or [""]
        reason = fatal[0] if fatal else re.sub(r"^[A-Za-z.]*(Error|Exception): ", "", lines[-1])
        fail(f"The template cannot be used: {reason} Look at _src_path and _commit in {ANSWERS}.")
    return process.stdout


def must_be_committed() -> None:
    command = ["git", "rev-parse", "--quiet", "--verify", "HEAD"]
    if subprocess.run(command, cwd=PROJECT, capture_output=True).returncode:
        fail("Commit the project to git first: an update is a change to look at.")


def versions() -> tuple[str, str, bool]:
    """The version of the project, that of the template, and whether an update is to be had."""
    must_be_committed()
    copied_from()
    if not answer("_commit"):
        fail(
            "Write the template's version that the project has at _commit "
            f"in {ANSWERS}, and commit."
        )
    found = json.loads(copier("check-update", "--output-format", "json"))
    return found["current_version"], found["latest_version"], found["update_available"]


def status() -> None:
    current, latest, newer = versions()
    if newer:
        print(
            f"The template has version {latest}, the project has {current}: "
            "run just template-update."
        )
    else:
        print(f"The project has the newest version of its template, {current}.")


def merge() -> bool:
    """Return whether there was something newer."""
    must_be_committed()
    if git("status", "--porcelain"):
        fail("Commit or stash your changes first: an update needs a clean tree.")
    current, latest, newer = versions()
    if not newer:
        print(f"The project has the newest version of its template, {current}.")
        return False
    print(f"Updating from {current} to {latest}.", flush=True)
    copier("update", "--defaults", "--quiet")
    for line in added(CHANGELOG):
        print(line)
    for line in added(ANSWERS):
        if not line.startswith("_commit"):
            print(f"Answer: {line}")
    if conflicts := git("diff", "--name-only", "--diff-filter=U").strip():
        fail(
            f"Both you and the template changed the same lines of these files:\n{conflicts}\n"
            "Choose between the marked lines, git add each file, and run: uv run just check test"
        )
    if (PROJECT / "uv.lock").exists() and (found := uv()):
        subprocess.run([found, "lock", "--quiet"], cwd=PROJECT, check=True)
    return True


def added(name: str) -> list[str]:
    """The lines that the update added to a file."""
    lines = git("diff", "--unified=0", "--", name).splitlines()
    return [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")]


def update() -> None:
    if not merge():
        return
    sys.stdout.flush()
    environment = os.environ.get("VIRTUAL_ENV")
    found, just = uv(), [shutil.which("just") or "just"]
    if found and (not environment or Path(environment) == PROJECT / ".venv"):
        just = [found, "run", "just"]  # which installs what the update brought
    for recipe in ("check", "test"):
        if subprocess.run([*just, recipe], cwd=PROJECT).returncode:
            fail(
                "The update is in your working tree and a check fails: see above. "
                "git diff shows what changed."
            )
    print("Left to do: look at the changes with git status and git diff, and commit them.")


def version() -> None:
    print(answer("_commit"))


COMMANDS: dict[str, Callable[[], object]] = {
    "status": status,
    "merge": merge,
    "update": update,
    "version": version,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        fail(f"Say {', '.join(list(COMMANDS)[:-1])} or version.")
    COMMANDS[sys.argv[1]]()
