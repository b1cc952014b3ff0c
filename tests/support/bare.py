"""An environment that has only a shell, coreutils, git, Python and uv."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

COREUTILS = [
    "basename",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dirname",
    "echo",
    "env",
    "expr",
    "false",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "nproc",
    "printf",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tee",
    "test",
    "touch",
    "tr",
    "true",
    "uname",
    "uniq",
    "wc",
]
"""Programs of coreutils. grep, find and awk are missing, as on a small machine."""


def bare_environment(root: Path) -> dict[str, str]:
    """Create an empty home and a PATH with a few programs in `root`. Return the variables.

    uv keeps its cache of packages, so it does not download them for each test.
    """
    programs, home, tools = root / "bin", root / "home", Path(sys.executable).parent
    programs.mkdir(parents=True)
    home.mkdir()
    for name in ("sh", "bash", "git", "sed", *COREUTILS):  # git's own scripts call sed
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    for name in ("uv", "uvx"):
        (programs / name).symlink_to(tools / name)
    kept = {
        name: value
        for name, value in os.environ.items()
        if re.match(
            r"PIP_|SSL_|.*_PROXY$|.*_proxy$|LANG|LC_|TMPDIR|GIT_|UV_DEFAULT_INDEX|UV_INDEX", name
        )
    }
    cache = subprocess.run([tools / "uv", "cache", "dir"], check=True, stdout=subprocess.PIPE)
    kept["UV_CACHE_DIR"] = cache.stdout.decode().strip()
    return kept | {"HOME": str(home), "PATH": str(programs)}


def run(directory: Path, environment: dict[str, str], *command: str) -> str:
    """Run a command in such an environment; return what it printed."""
    process = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stdout
    return process.stdout
