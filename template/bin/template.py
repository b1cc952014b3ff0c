"""Updates this project from its template. The recipes of the justfile run it.

    status   show whether the template has a newer version
    merge    update the project, and fail if a file has a conflict
    update   merge, then run `just check` and `just test`
    version  print the version of the template that the project has

It needs git, and uv or Copier.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from run_copier import ANSWERS, PROJECT, answer, copier, fail, git, hidden, ignored, uv

CHANGELOG = "docs/template-changelog.md"
UPDATED = "The update is in your working tree, but"


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
    if lines := ignored():
        words = "Git ignores these tracked files, and an update would lose your changes in them."
        fail(f"{words} Remove the patterns: {', '.join(lines)}")
    if names := " ".join(hidden()):
        words = "Git hides your changes in these files, and an update would lose them. Run git"
        fail(f"{words} update-index --no-skip-worktree, or --no-assume-unchanged, with: {names}")
    print(f"Updating from {current} to {latest}.", flush=True)
    try:
        copier("update", "--defaults", "--quiet")
    except SystemExit:
        undo()
        raise
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
            "Resolve the conflicts, git add each file, and run: uv run just check test"
        )
    found = uv() if (PROJECT / "uv.lock").exists() else None
    if found and subprocess.run([found, "lock", "--quiet"], cwd=PROJECT).returncode:
        fail(
            f"{UPDATED} uv lock fails: see above. "
            "Correct pyproject.toml, and run: uv lock && uv run just check test"
        )


def undo() -> None:
    """Undo an update that stopped halfway. The tree was clean before it."""
    if not git("status", "--porcelain", "--untracked-files=normal"):
        return
    for command in ("git reset --quiet --hard", "git clean --quiet -d --force"):
        if subprocess.run(command.split(), cwd=PROJECT).returncode:
            fail(f"The update stopped halfway, and your edits are not in the files. Run: {command}")
    print("The update stopped halfway, and was undone.", file=sys.stderr)


def changed(kind: str) -> list[str]:
    """The paths of the files that are deleted (D) or have a conflict (U)."""
    paths = git("diff", "--relative", "--name-only", "-z", f"--diff-filter={kind}")
    return paths.split("\0")[:-1]


def added(name: str) -> list[str]:
    """The lines that the update added to a file, without those of releases that it had before."""
    diff = git("diff", "--no-ext-diff", "--no-color", "--unified=99999", "--", name)
    sections = re.split(r"^(?=.## \[)", diff, flags=re.MULTILINE)
    new = [it for it in sections[1:] or sections if not re.match(r" ## \[(?!Unreleased)", it)]
    return [line[1:] for line in "".join(new).splitlines() if re.match(r"\+(?!\+\+ )", line)]


def update() -> None:
    merge()
    sys.stdout.flush()
    environment = os.environ.get("VIRTUAL_ENV")
    found, just = uv(), [shutil.which("just") or "just"]
    if found and (not environment or Path(environment) == PROJECT / ".venv"):
        just = [found, "run", "just"]  # uv installs new dependencies
    for recipe in ("check", "test"):
        if subprocess.run([*just, recipe], cwd=PROJECT).returncode:
            fail(f"{UPDATED} a check fails: see above. git diff shows what changed.")
    print("Next: review the changes with git status and git diff, and commit them.")


def version() -> None:
    print(answer("_commit"))


COMMANDS = {command.__name__: command for command in (status, merge, update, version)}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        fail(f"Use one of the commands {', '.join(list(COMMANDS)[:-1])} and version.")
    COMMANDS[sys.argv[1]]()
