"""The documentation site: it builds, its links work, and it loads nothing from other hosts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from support.projects import environment, run
from support.rendering import ANSWERS, render

LOADED = {"audio", "embed", "iframe", "img", "link", "script", "source", "track", "video"}
"""Elements whose URL a browser loads without a click."""

LOADERS = {"mermaid", "glightbox", "arithmatex", "pyodide"}
"""Classes for which the script of the site loads a library from another host."""


@dataclass
class Page(HTMLParser):
    """The URLs that a page loads, its links, and the anchors in it."""

    file: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.names |= {found[name] for name in ("id", "name") if name in found}
        self.classes |= set(found.get("class", "").split())
        address = found.get("src") or found.get("href") or found.get("data", "")
        if tag == "a" and address:
            self.links.append(address)
        elif tag in LOADED and address and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(address)
        self.loads += re.findall(r"url\(([^)]+)\)", found.get("style", ""))


def build(template: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "docs/build.py"],
        cwd=template,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def copy(template: Path, place: Path) -> Path:
    shutil.copytree(template, place, ignore=shutil.ignore_patterns(".git"))
    return place


@pytest.fixture(scope="module")
def site(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = copy(template, tmp_path_factory.mktemp("docs") / "clone")
    process = build(clone)
    assert process.returncode == 0, process.stdout
    return clone / "site"


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Path:
    """A copy of the repository, which a test can change."""
    return copy(template, tmp_path / "clone")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def written(site: Path, name: str) -> str:
    """The Markdown of a reference page, in one line."""
    page = site.parent / "build" / "docs" / "reference" / f"{name}.md"
    return " ".join(page.read_text(encoding="utf-8").split())


def test_every_page_is_there_and_found_by_the_search(site: Path) -> None:
    sources = site.parent / "build" / "docs"
    index = json.loads((site / "search.json").read_text(encoding="utf-8"))
    found = {urldefrag(item["location"])[0] for item in index["items"]}
    names = [page.relative_to(sources).with_suffix("").as_posix() for page in sources.rglob("*.md")]
    assert len(names) > 20
    for name in names:
        place = re.sub(r"(^|/)index$", "", name)
        assert (site / place / "index.html").exists(), name
        assert f"{place}/".lstrip("/") in found, name


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for file, page in pages.items():
        for link in [*page.links, *page.loads]:
            address, anchor = urldefrag(link)
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            base = site if address.startswith("/") else file.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if address else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and unquote(anchor) not in pages[target].names):
                broken.append((file.relative_to(site).as_posix(), link))
    assert broken == []


def assets(site: Path) -> Iterator[tuple[str, str]]:
    """The URLs that style sheets load."""
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for address in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", text):
            yield sheet.name, address


def test_nothing_is_loaded_from_a_foreign_host(site: Path, pages: dict[Path, Page]) -> None:
    loaded = [(file.name, load) for file, page in pages.items() for load in page.loads]
    assert len(loaded) > len(pages)
    foreign = [pair for pair in [*loaded, *assets(site)] if re.match(r"(https?:)?//", pair[1])]
    assert foreign == []
    for file, page in pages.items():
        assert not page.classes & LOADERS, file


def test_a_broken_link_stops_the_build(clone: Path) -> None:
    page = clone / "docs/how-to/retry.md"
    page.write_text("# Retry\n\n[nowhere](nowhere.md) [no part](queues.md#none)\n")
    process = build(clone)
    assert process.returncode != 0
    assert "page does not exist" in process.stdout
    assert "anchor does not exist" in process.stdout


def test_a_page_without_a_place_stops_the_build(clone: Path) -> None:
    (clone / "docs/how-to/lost.md").write_text("# Lost\n")
    process = build(clone)
    assert process.returncode == 1
    assert "Name these pages in the navigation of zensical.toml: how-to/lost.md." in process.stdout


def test_a_place_without_a_page_stops_the_build(clone: Path) -> None:
    (clone / "docs/decisions.md").unlink()
    process = build(clone)
    assert process.returncode == 1
    assert "zensical.toml names pages that do not exist: decisions.md." in process.stdout


def test_a_diagram_that_is_not_drawn_stops_the_build(clone: Path) -> None:
    (clone / "docs/how-to/queues.md").write_text("# Queues\n\n```mermaid\nflowchart LR\n```\n")
    process = build(clone)
    assert process.returncode == 1
    assert "Draw the diagram of how-to/queues.md" in process.stdout


def test_the_reference_is_what_the_source_says(site: Path, template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    questions = written(site, "questions")
    for name, answer in yaml.safe_load((project / ".copier-answers.yml").read_text()).items():
        if name in ANSWERS:
            default = re.search(rf"## `{name}` (?:(?! ## ).)*? Default: `([^`]*)`", questions)
            assert default, name
            assert default[1].lower() == str(answer).lower(), name
    recipes = written(site, "recipes")
    for recipe in run(project, "just", "--summary").split():
        assert f"just {recipe}" in recipes
    settings = written(site, "settings")
    source = (project / "config/settings/celery.py").read_text(encoding="utf-8")
    names = re.findall(r"^ *(CELERY_\w+)", source, re.MULTILINE)
    reasons = re.findall(r"^# (?:.*\. )?(\w.*\.)$", source, re.MULTILINE)
    assert [words for words in [*names, *reasons] if words not in settings] == []
    files = written(site, "files")
    for file in project.rglob("*"):
        if file.is_file():
            assert file.relative_to(project).as_posix() in files


def test_files_have_the_owner_that_updates_gives_them(site: Path) -> None:
    html = (site / "reference/files/index.html").read_text(encoding="utf-8")
    owners = dict(re.findall(r"<td><code>([^<]+)</code></td>\s*<td>([^<]+)</td>", html))
    assert {name for name, owner in owners.items() if owner == "yours"} >= {
        ".env",
        "README.md",
        "apps/tasks/tasks.py",
        "config/settings/project.py",
    }
    assert owners["apps/pipeline/schedules.py"] == "the template's"
    assert owners["justfile"] == "shared"
