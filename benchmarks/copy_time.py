"""Compares the time of `copier copy --defaults` with that of other templates, in turn.

uv run benchmarks/copy_time.py
uv run benchmarks/copy_time.py --cookiecutter ~/cookiecutter-django use_celery=y

The first compares with a template of one file. The second compares also with a clone of a
Cookiecutter template, with answers for it. Its hooks do not run, because those of
cookiecutter-django also resolve all packages.
"""

import argparse
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from copier import run_copy

ROOT = Path(__file__).resolve().parent.parent


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


def copier_command(template: Path) -> list[str]:
    return ["copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD", str(template)]


def cookiecutter_command(root: Path, *template_and_answers: str) -> list[str]:
    """Install Cookiecutter into an environment of its own."""
    subprocess.run(["uv", "venv", "--quiet", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python"]
    subprocess.run([*install, python, "cookiecutter"], check=True)
    options = ["--no-input", "--accept-hooks", "no", *template_and_answers, "--output-dir"]
    return [str(python.with_name("cookiecutter")), *options]


def seconds(command: list[str], destination: Path) -> float:
    started = time.perf_counter()
    subprocess.run([*command, str(destination)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_of_api(template: Path, destination: Path) -> float:
    started = time.perf_counter()
    run_copy(str(template), destination, defaults=True, quiet=True, vcs_ref="HEAD")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cookiecutter", nargs="+", help="a template and answers", default=[])
    options = parser.parse_args()
    with TemporaryDirectory() as directory:
        root = Path(directory)
        git(root, "clone", "--quiet", str(ROOT), "clone")
        commands = {
            "this template": copier_command(root / "clone"),
            "one file": copier_command(one_file(root / "one")),
        }
        if options.cookiecutter:
            name = f"{Path(options.cookiecutter[0]).name}, without its hooks"
            commands[name] = cookiecutter_command(root, *options.cookiecutter)
        rounds = []
        for turn in range(options.rounds):
            times = {
                what: seconds(command, root / f"{turn}-{what}")
                for what, command in commands.items()
            }
            times["this template, Copier's API"] = seconds_of_api(
                root / "clone", root / f"{turn}-api"
            )
            rounds.append(times)
    print("| template | s | this template / it |\n| --- | ---: | ---: |")
    for what in rounds[0]:
        ratio = median(times["this template"] / times[what] for times in rounds)
        print(f"| {what} | {median(times[what] for times in rounds):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
