"""Updates this project from its template. The recipes of the justfile run it.

    status   show whether the template has a newer version
    merge    update the project, and fail if a file has a conflict
    update   merge, then run `just check` and `just test`
    version  print the version of the template that the project has

It needs git, and uv or Copier. It imports only the standard library.
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


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def uv() -> str | None:
    """The uv that runs this program, or the uv on PATH."""
    return os.environ.get("UV") or shutil.which("uv")


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout


def answer(name: str) -> str:
    """The value of a name in the answers file; empty if the file does not have it."""
    if not (PROJECT / ANSWERS).exists():
        fail(f"Restore {ANSWERS} from git.")
    text = (PROJECT / ANSWERS).read_text(encoding="utf-8")
    if re.search("^<<<<<<< ", text, re.MULTILINE):
        fail(f"Choose between the marked lines of {ANSWERS}, and commit.")
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
    process = subprocess.run(
        [*command, *arguments, os.path.relpath(PROJECT, directory)],
        cwd=directory,
        capture_output=True,
        text=True,
    )
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


def reason(errors: str) -> str:
    """The error message of Git or Copier."""
    if fatal := re.search(r"fatal: (.*)", errors):
        return str(fatal[1])
    lines = [line for line in errors.splitlines() if line.strip()] or [""]
    return re.sub(r"^[A-Za-z.]*(Error|Exception): ", "", lines[-1])


def versions() -> tuple[str, str]:
    """The version of the project and the newer version. Exit if there is none."""
    if not answer("_commit"):
        fail(f"Write the version of the template at _commit in {ANSWERS}, and commit.")
    try:
        git("cat-file", "-e", f"HEAD:./{ANSWERS}")  # fails if git ignores the project
    except FileNotFoundError:
        fail("Install git.")
    except subprocess.CalledProcessError as error:
        if "safe.directory" in error.stderr:
            fail(error.stderr.strip())
        fail("Commit the project to git first, so that you can review the update.")
    found = json.loads(copier("check-update", "--output-format", "json"))
    if not found["update_available"]:
        print(f"The project has the newest version of its template, {found['current_version']}.")
        sys.exit()
    return found["current_version"], found["latest_version"]


def status() -> None:
    current, latest = versions()
    print(f"The template has version {latest}, and the project has {current}. ", end="")
    print("Run just template-update.")


def merge() -> None:
    current, latest = versions()
    if git("status", "--porcelain", "--untracked-files=normal"):
        fail("Commit or stash your changes first: an update needs a clean tree.")
    print(f"Updating from {current} to {latest}.", flush=True)
    copier("update", "--defaults", "--quiet")
    for line in added(CHANGELOG):
        print(line)
    for line in added(ANSWERS):
        if not line.startswith("_commit"):
            print(f"Answer: {line}")
    if gone := changed("D"):
        print(f"The template moved or removed {len(gone)} files, for example {gone[0]}.")
        print("To see your changes in them: git diff --diff-filter=D")
    if conflicts := "\n".join(changed("U")):
        fail(
            f"You and the template changed the same lines of these files:\n{conflicts}\n"
            "Choose between the marked lines, git add each file, and run: uv run just check test"
        )
    found = uv() if (PROJECT / "uv.lock").exists() else None
    if found and subprocess.run([found, "lock", "--quiet"], cwd=PROJECT).returncode:
        fail(
            "The update is in your working tree, but uv lock fails: see above. "
            "Correct pyproject.toml, and run: uv lock && uv run just check test"
        )


def changed(kind: str) -> list[str]:
    """The paths of the files that are deleted (D) or have a conflict (U)."""
    paths = git("diff", "--relative", "--name-only", "-z", f"--diff-filter={kind}")
    return paths.split("\0")[:-1]


def added(name: str) -> list[str]:
    """The lines that the update added to a file."""
    lines = git("diff", "--no-ext-diff", "--no-color", "--unified=0", "--", name).splitlines()
    return [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")]


def update() -> None:
    merge()
    sys.stdout.flush()
    environment = os.environ.get("VIRTUAL_ENV")
    found, just = uv(), [shutil.which("just") or "just"]
    if found and (not environment or Path(environment) == PROJECT / ".venv"):
        just = [found, "run", "just"]  # uv installs new dependencies
    for recipe in ("check", "test"):
        if subprocess.run([*just, recipe], cwd=PROJECT).returncode:
            fail(
                "The update is in your working tree, but a check fails: see above. "
                "git diff shows what changed."
            )
    print("Next: review the changes with git status and git diff, and commit them.")


COMMANDS: dict[str, Callable[[], None]] = {
    "status": status,
    "merge": merge,
    "update": update,
    "version": lambda: print(answer("_commit")),
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        fail(f"Use one of the commands {', '.join(list(COMMANDS)[:-1])} and version.")
    COMMANDS[sys.argv[1]]()
