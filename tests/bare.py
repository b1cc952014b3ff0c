"""The environment of a machine with a shell, coreutils, git, Python and uv, and nothing else."""

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
"""Programs of coreutils: no grep, find or awk, which a small machine may lack."""


def bare_environment(root: Path, *, uv: bool = True) -> dict[str, str]:
    """Make an empty home and a PATH of a few programs in `root`; return the variables."""
    programs, home = root / "bin", root / "home"
    programs.mkdir(parents=True)
    home.mkdir()
    for name in ("sh", "bash", "git", "sed", *COREUTILS):  # git's own scripts call sed
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    python = Path(sys.base_prefix) / "bin" / "python3"
    (programs / "python3").symlink_to(python)
    kept = {
        name: value
        for name, value in os.environ.items()
        if re.match(
            r"PIP_|SSL_|.*_PROXY$|.*_proxy$|LANG|LC_|TMPDIR|GIT_|UV_DEFAULT_INDEX|UV_INDEX", name
        )
    }
    if uv:
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            f"{root}/tools",
            "uv",
        ]
        subprocess.run(command, check=True, capture_output=True)
        (programs / "uv").symlink_to(root / "tools" / "bin" / "uv")
        (programs / "uvx").symlink_to(root / "tools" / "bin" / "uvx")
    return kept | {"HOME": str(home), "PATH": str(programs)}
