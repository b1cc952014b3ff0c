"""Build the documentation site: `just docs`, or `just docs-serve` to serve it while you write.

The pages come from three places:

    docs/             pages about the template, and guides
    template/docs/    the pages of a project, rendered with the default answers, and those of other
                      answers: project/
    copier.yml and the rendered project, from which reference.py writes: reference/

They are written to build/docs. Zensical builds site/ from them, with the options in zensical.toml.
"""

import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import reference
import watchfiles
import yaml
from copier import run_copy

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "docs"
TEMPLATE = ("CHANGELOG.md", "copier.yml", "template", "validators")
"""The files that Copier needs. They are copied, because Copier uses git in a git repository."""

DRAWN = {
    "project/celery-and-tasks.md": ["pipeline"],
    "architecture.md": ["packages", "message", "schedule", "heartbeat", "update"],
}
"""The pictures in docs/pictures that replace the Mermaid diagrams of a page."""

FENCE = re.compile(r"^```(\w+)[ ]+(.+)$", re.MULTILINE)
MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^<!-- picture: (\w+) -->$", re.MULTILINE)


def for_site(name: str, markdown: str) -> str:
    """A page as the site shows it.

    Of the attributes of a code block, Zensical supports only the title, so the others are removed.
    Zensical would draw Mermaid diagrams with a script from another host.
    """
    pictures = DRAWN.get(name, [])
    if len(MERMAID.findall(markdown)) != len(pictures):
        sys.exit(f"Draw the diagram of {name} in docs/pictures, and name it in docs/build.py.")
    order = iter(pictures)
    markdown = MERMAID.sub(lambda _: f"<!-- picture: {next(order)} -->", markdown)
    return FENCE.sub(_fence, PICTURE.sub(_picture, markdown))


def _picture(match: re.Match[str]) -> str:
    """The picture as inline SVG, so that it has the colours of the page."""
    return (ROOT / "docs" / "pictures" / f"{match[1]}.svg").read_text(encoding="utf-8")


def _fence(match: re.Match[str]) -> str:
    language, rest = match.groups()
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    title = attributes.get("title") or attributes.get("browser", "")
    if "terminal" in attributes:
        title = f"the terminal named {attributes['terminal']}"
    if rest.endswith(" append"):
        title += " (at its end)"
    return f'```{language} title="{title}"' if title else f"```{language}"


def render(place: Path) -> Path:
    """Render a project with the default answers in `place`. Return its path."""
    for name in TEMPLATE:
        source, target = ROOT / name, place / "template" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    run_copy(str(place / "template"), place / "project", defaults=True, quiet=True)
    return place / "project"


def pages() -> Iterator[tuple[str, str]]:
    """The path and the text of every page."""
    for page in (ROOT / "docs").rglob("*.md"):
        yield page.relative_to(ROOT / "docs").as_posix(), page.read_text(encoding="utf-8")
    yield "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    with TemporaryDirectory() as place:
        project = render(Path(place))
        for page in (project / "docs").glob("*.md"):
            if page.name != "template-changelog.md":
                yield f"project/{page.name}", page.read_text(encoding="utf-8")
        for page in (ROOT / "template" / "docs").glob("*.md"):
            if not (project / "docs" / page.name).exists():  # a page of other answers
                yield f"project/{page.name}", page.read_text(encoding="utf-8")
        package = (project / "apps" / "pipeline" / "README.md").read_text(encoding="utf-8")
        yield "project/pipeline.md", package
        configuration = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
        yield "reference/questions.md", reference.questions(configuration, project)
        yield "reference/recipes.md", reference.recipes(project)
        yield "reference/settings.md", reference.settings(project)
        yield "reference/files.md", reference.files(configuration, project)


def assemble() -> None:
    """Update build/docs. Write only changed pages, because a served site reloads each of them."""
    wanted = {PAGES / name: for_site(name, text) for name, text in pages()}
    for page in PAGES.rglob("*.md"):
        if page not in wanted:
            page.unlink()
    for page, text in wanted.items():
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
    shutil.copytree(
        ROOT / "docs" / "pictures",
        PAGES / "pictures",
        ignore=shutil.ignore_patterns("*.svg"),
        dirs_exist_ok=True,
    )


def navigation(entries: list[Any]) -> Iterator[str]:
    """The pages that the navigation of zensical.toml names."""
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(target, list):
                yield from navigation(target)
            else:
                yield target


def check_navigation() -> None:
    """Exit with a message if the navigation does not name a page, or names a missing page."""
    configuration = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = set(navigation(configuration["project"]["nav"]))
    there = {page.relative_to(PAGES).as_posix() for page in PAGES.rglob("*.md")}
    if lost := sorted(there - named):
        sys.exit(f"Name these pages in the navigation of zensical.toml: {', '.join(lost)}.")
    if gone := sorted(named - there):
        sys.exit(f"zensical.toml names pages that do not exist: {', '.join(gone)}.")


def build() -> int:
    """Build site/. Return the exit code of Zensical, which is not 0 if a link is broken."""
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    assemble()
    check_navigation()
    return subprocess.run(["zensical", "build", "--clean", "--strict"], cwd=ROOT).returncode


def serve() -> None:
    """Serve the site on this machine until Ctrl-C. The terminal and uv both send its signal."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    assemble()
    server = subprocess.Popen(["zensical", "serve"], cwd=ROOT)
    sources = [ROOT / "docs", *(ROOT / name for name in TEMPLATE)]
    try:
        for _ in watchfiles.watch(*sources, raise_interrupt=False):
            assemble()
    finally:
        server.terminate()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(build())
