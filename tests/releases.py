"""Released versions of the template, kept as archives so that they survive without tags.

`python tests/releases.py v0.2.0` writes the archive of the commit that is checked out, for the
recipe that makes a release.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
ARCHIVES = ROOT / "tests" / "releases"
PARTS = ("CHANGELOG.md", "copier.yml", "validators", "template")
"""What of the template's repository makes projects."""


def releases() -> list[str]:
    """The tags of all releases, the oldest first."""
    names = (archive.name.removesuffix(".tar.xz") for archive in ARCHIVES.glob("*.tar.xz"))
    return sorted(names, key=Version)


def unpack(release: str, destination: Path) -> None:
    """Put the template as it was released into a directory."""
    with tarfile.open(ARCHIVES / f"{release}.tar.xz") as archive:
        archive.extractall(destination, filter="data")


def pack(release: str) -> Path:
    """Archive the template's parts of the commit that is checked out; return the file."""
    command = ["git", "archive", "--format=tar", "HEAD", *PARTS]
    content = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    target = ARCHIVES / f"{release}.tar.xz"
    target.parent.mkdir(exist_ok=True)
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as source,
        tarfile.open(target, "w:xz", preset=9) as archive,
    ):
        for member in source:
            member.mtime = 0  # the same files give the same archive
            archive.addfile(member, source.extractfile(member) if member.isfile() else None)
    return target


if __name__ == "__main__":
    print(pack(sys.argv[1]))
