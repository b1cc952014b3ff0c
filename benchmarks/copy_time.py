"""Compares the time of `copier copy --defaults` with that of a template of one file, in turn.

Run it from a clone: uv run benchmarks/copy_time.py
"""

import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True)


def one_file(directory: Path) -> Path:
    """A template of one question and one file."""
    (directory / "template").mkdir(parents=True)
    (directory / "copier.yml").write_text("_subdirectory: template\nname: demo\n")
    (directory / "template" / "hello.txt.jinja").write_text("Hello {{ name }}\n")
    git(directory, "init", "--quiet")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", "One file")
    git(directory, "tag", "v0.0.1")
    return directory


def seconds(template: Path, destination: Path) -> float:
    command = ["copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"]
    started = time.perf_counter()
    subprocess.run([*command, str(template), str(destination)], check=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        other = one_file(root / "one")
        git(root, "clone", "--quiet", str(ROOT), "clone")
        rows = [
            (seconds(root / "clone", root / f"ours-{turn}"), seconds(other, root / f"one-{turn}"))
            for turn in range(ROUNDS)
        ]
    print(f"this template  {median(ours for ours, _ in rows):.2f} s")
    print(f"one file       {median(one for _, one in rows):.2f} s")
    print(f"ratio          {median(ours / one for ours, one in rows):.2f}")


if __name__ == "__main__":
    main()
