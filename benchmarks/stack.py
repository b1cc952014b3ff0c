"""Measures the containers: the size of the image, and the seconds until they are built and healthy.

uv run benchmarks/stack.py            the figures of the image and of `just up`
uv run benchmarks/stack.py --tests    and the container tests, each with its seconds
uv run benchmarks/stack.py --write    what it prints, as the tables of docs/containers.md
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "containers.md"
BASE = "python:3.13-slim"
FILES = {
    "test_stack": "default answers",
    "test_stack_rabbitmq": "RabbitMQ",
    "test_stack_production": "production",
}


def run(*command: str, cwd: Path = ROOT, **variables: str) -> str:
    environment = os.environ | variables
    process = subprocess.run(
        command, cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return process.stdout.strip()


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def size(image: str) -> int:
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))


def figures(project: Path) -> list[tuple[str, str, str]]:
    """Each target of the stack, what was measured, and whether it was met."""

    def compose(*arguments: str) -> Callable[[], object]:
        return lambda: run("docker", "compose", *arguments, cwd=project, WEB_PORT="0")

    build, up = ("build", "--quiet"), ("up", "--detach", "--wait")
    try:
        first = seconds(compose(*build, "--no-cache"))
        healthy = seconds(compose(*up))
        with (project / "apps" / "tasks" / "tasks.py").open("a") as code:
            code.write("\n# changed\n")
        again = seconds(compose(*build))
        megabytes = (size(project.name) - size(BASE)) / 1e6
    finally:
        compose("down", "--volumes", "--rmi", "local")()
    measured = [
        ("image beyond its Python base, below 250 MB", megabytes, 250, "MB"),
        ("build anew after a change of the code, below 10 s", again, 10, "s"),
        ("a fresh copy built and healthy, below 90 s", first + healthy, 90, "s"),
        ("of that: the image, no layer of it cached", first, 90, "s"),
    ]
    return [
        (what, f"{figure:.1f} {unit}", "yes" if figure < limit else "no")
        for what, figure, limit, unit in measured
    ]


def tests(report: Path) -> list[tuple[str, ...]]:
    """Each check of the container tests with its seconds on each stack; runs them, for minutes."""
    files = [f"tests/containers/{name}.py" for name in FILES]
    subprocess.run(["pytest", "-m", "containers", f"--junitxml={report}", *files], cwd=ROOT)
    cells: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written just now
        name, _, parameters = case.attrib["name"].removeprefix("test_").rstrip("]").partition("[")
        what = name.replace("_", " ") + (f" ({parameters})" if parameters else "")
        verdict = "" if len(case) == 0 else f" {case[0].tag}"
        file = case.attrib["classname"].split(".")[2]
        cells.setdefault(what, {})[file] = f"{float(case.attrib['time']):.0f} s{verdict}"
    return [(what, *(row.get(file, "") for file in FILES)) for what, row in cells.items()]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def surroundings() -> str:
    versions = json.loads(run("docker", "version", "--format", "{{json .Server.Version}}"))
    compose = run("docker", "compose", "version", "--short")
    machine = f"{os.cpu_count()} processors ({platform.machine()}), load {os.getloadavg()[0]:.0f}"
    return f"Docker {versions}, Compose {compose}, {machine}, {time.strftime('%Y-%m-%d')}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "stack-benchmark"
        answers = ("--defaults", "--vcs-ref", "HEAD", "-d", "project_name=stack-benchmark")
        run("copier", "copy", "--quiet", *answers, str(ROOT), str(project))
        measured = figures(project)
        tables = [table(("target", "measured", "met"), measured)]
        if "--tests" in sys.argv:
            rows = tests(Path(name) / "report.xml")
            tables.append(table(("check", *FILES.values()), rows))
    text = f"On {surroundings()}.\n\n" + "\n\n".join(tables) + "\n"
    print(text)
    if "--write" in sys.argv:
        mark = "<!-- Written by benchmarks/stack.py --write -->\n"
        above = PAGE.read_text().partition(mark)[0]
        PAGE.write_text(f"{above}{mark}\n{text}")


if __name__ == "__main__":
    main()
