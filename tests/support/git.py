"""Git without the user's configuration, and a committed copy of a tree."""

import os
import shutil
import subprocess
from pathlib import Path

IDENTITY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Template Tests",
    "GIT_AUTHOR_EMAIL": "tests@example.com",
    "GIT_COMMITTER_NAME": "Template Tests",
    "GIT_COMMITTER_EMAIL": "tests@example.com",
    "GIT_CONFIG_COUNT": "1",  # in containers a checkout can belong to another user
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
"""Variables that switch off the user's git configuration: signing, hooks and aliases."""


def git(directory: Path, *arguments: str | Path) -> str:
    """Run git in `directory` and return its output."""
    process = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return process.stdout


def copy_tree(root: Path, destination: Path) -> None:
    """Copy the files of `root` that git does not ignore, and commit them as v0.0.1.

    A copy of uncommitted changes cannot be updated. Seen in copier 9.19.1 (not reported yet).
    Delete the commit once fixed.
    """
    destination.mkdir(parents=True)
    git(destination, "init", "--quiet", "--initial-branch=main")
    if (root / ".git").exists():
        listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    else:  # an unpacked archive: the new repository applies .gitignore
        tree = (f"--git-dir={destination / '.git'}", f"--work-tree={root}")
        listed = git(root, *tree, "ls-files", "-z", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = root / name, destination / name
        if (
            source.is_symlink() or source.is_file()
        ):  # a tracked file can be deleted in the working tree
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    git(destination, "add", "--all", "--force")
    git(destination, "commit", "--quiet", "--message", "The template as it is here")
    git(destination, "tag", "v0.0.1")
