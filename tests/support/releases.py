"""Archives of the template's releases, which tests need because a clone may have no tags.

`python -m support.releases v0.2.0`, with tests/ in PYTHONPATH, writes an archive of the current
commit. The recipe `release` runs it. `v0.2.0.dev0` is a commit between two releases, for people who
copied with `--vcs-ref HEAD`. Updates from it are tested too.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from packaging.version import Version

from support.rendering import ROOT

ARCHIVES = ROOT / "tests" / "update" / "releases"
PARTS = ("CHANGELOG.md", "copier.yml", "validators", "template")
"""The files of the repository that projects are made from."""


def releases() -> list[str]:
    """The tags of all releases, the oldest first."""
    names = (archive.name.removesuffix(".tar.xz") for archive in ARCHIVES.glob("*.tar.xz"))
    return sorted(names, key=Version)


def unpack(release: str, destination: Path) -> None:
    """Unpack a release of the template into a directory."""
    with tarfile.open(ARCHIVES / f"{release}.tar.xz") as archive:
        archive.extractall(destination, filter="data")


def pack(release: str) -> Path:
    """Archive the template's files of the current commit. Return the path of the archive."""
    command = ["git", "archive", "--format=tar", "HEAD", *PARTS]
    content = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    target = ARCHIVES / f"{release}.tar.xz"
    target.parent.mkdir(exist_ok=True)
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as source,
        tarfile.open(target, "w:xz", preset=9) as archive,
    ):
        for member in source:
            member.mtime = 0  # so that the same files give the same archive
            archive.addfile(member, source.extractfile(member) if member.isfile() else None)
    return target


if __name__ == "__main__":
    print(pack(sys.argv[1]))
