"""The slug: its default, and the slugs that are refused."""

# ruff: noqa: RUF001  names in many scripts are what is tested

import keyword
import re
import sys
import unicodedata
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.questionnaire import ENVIRONMENT, Ask, refusal, refused, says_what_to_write
from support.rendering import QUESTIONS, ROOT, recorded


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Café Zürich", "cafe-zurich"),
        ("Cafe\u0301 Zu\u0308rich", "cafe-zurich"),  # the same in combining characters
        ("Straße", "strasse"),
        ("Ærø & Øster Ægir", "aero-oster-aegir"),
        ("İstanbul ışık", "istanbul-isik"),
        ("Łódź", "lodz"),
        ("Đà Nẵng", "da-nang"),
        ("Bob’s Shop", "bobs-shop"),
        ('Bob\'s "Shop"', "bobs-shop"),
        ("  --Shop__2.0!! ", "shop-2-0"),
        ("日本 Shop", "shop"),
        ("3D Shop", "project-3d-shop"),
        ("Django", "django-project"),
        ("Test", "test-project"),
        ("Django Celery Beat", "django-celery-beat-project"),
        (
            "The longest name that anybody has ever given to a project of",
            "the-longest-name-that-anybody-has-ever-g",
        ),
        ("Thirty-nine letters and then a hyphen ab cd", "thirty-nine-letters-and-then-a-hyphen-ab"),
    ],
)
def test_the_slug_is_made_of_the_name(name: str, slug: str) -> None:
    proposed = ENVIRONMENT.from_string(QUESTIONS["project_slug"]["default"]).render(
        project_name=name
    )
    assert proposed == slug
    assert not refusal("project_slug", slug)


def test_every_accented_latin_letter_has_a_plain_one_in_the_slug() -> None:
    fold = ENVIRONMENT.from_string(QUESTIONS["project_slug"]["default"])
    for point in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        letter = chr(point)
        base = unicodedata.normalize("NFKD", letter)[0]
        if letter.isalpha() and base.isascii() and base.isalpha():
            slug = fold.render(project_name=f"x{letter}x")
            assert slug[1:-1].startswith(base.lower()), f"{letter} became {slug}"


def test_a_name_without_a_latin_letter_needs_a_slug_of_its_own(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"On the command line: -d project_slug=my-shop") as error:
        ask(project_name="日本の店")
    assert says_what_to_write("project_slug", str(error.value).partition(": ")[2])
    assert not list(tmp_path.iterdir())
    assert (
        recorded(ask(project_name="日本の店", project_slug="my-shop"))["project_slug"] == "my-shop"
    )


@pytest.mark.parametrize("slug", ["a", "my-shop", "shop2", "a-1-b", "x" * 40, "django-shop"])
def test_a_good_slug_is_accepted(slug: str) -> None:
    assert not refusal("project_slug", slug)


@pytest.mark.parametrize(
    ("slug", "about"),
    [
        ("", "no Latin letter"),
        ("x" * 41, "the limit is 40"),
        *[
            (slug, "lower-case Latin letters")
            for slug in (
                "My-Shop", "my_shop", "my shop", "2shop", "-shop", "shop-", "my--shop", "café",
                "shop\n", "a.b", "a/b",
                "ſhop", "shop\u0662",
            )
        ],
        ("class", "Python keyword"),
        ("none", "Python keyword"),
        ("match", "Python keyword"),
        ("json", "standard library"),
        ("py-compile", "standard library"),
        ("django", "depends on"),
        ("celery", "depends on"),
        ("redis", "depends on"),
        ("kombu", "depends on"),
        ("django-celery-beat", "depends on"),
        ("sentry-sdk", "depends on"),
        ("con", "Windows"),
        ("lpt9", "Windows"),
        *[(slug, "value in YAML") for slug in ("n", "no", "null", "off", "on", "y", "yes")],
        ("config", "folder"),
        ("apps", "folder"),
        ("tests", "folder"),
        ("docs", "folder"),
        ("default", "namespace"),
        ("kube-system", "namespace"),
    ],
)  # fmt: skip
def test_a_slug_that_cannot_work_is_refused(slug: str, about: str) -> None:
    refused("project_slug", slug, about)


def test_a_project_with_the_name_of_a_namespace_keeps_it_in_an_update() -> None:
    assert not refusal("project_slug", "default", parts_now="[]")


def test_keywords_and_modules_of_the_standard_library_are_refused() -> None:
    words = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
    slugs = {word.lower().replace("_", "-") for word in words if not word.startswith("_")}
    assert [slug for slug in sorted(slugs) if not refusal("project_slug", slug)] == []


def requirements() -> list[Requirement]:
    """The dependencies that a project can have, with all extras."""
    text = (ROOT / "template" / "pyproject.toml.jinja").read_text(encoding="utf-8")
    text = re.sub(r"\{\{ '(.*?)' if .*? \}\}", r"\1", text)
    pattern = r'"([A-Za-z][\w.-]*(?:\[[^\]"]*\])?\s*(?:[~<>=!]=|[<>])[^"]*)"'
    return [Requirement(found) for found in re.findall(pattern, text)]


def closure(direct: list[Requirement]) -> set[str]:
    """The names of these packages and of all packages that they need, as far as installed here."""
    found: set[str] = set()
    waiting = [(it.name, extra) for it in direct for extra in ("", *it.extras)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(canonicalize_name(name))
        for it in map(Requirement, needed):
            if it.marker is None or it.marker.evaluate({"extra": extra}):
                more = {(it.name, inner) for inner in ("", *it.extras)} - seen
                seen |= more
                waiting += more
    return found


def test_dependencies_of_the_project_are_refused() -> None:
    direct = requirements()
    names = {canonicalize_name(it.name) for it in direct}
    assert {"django", "celery", "celery-redbeat", "ruff"} <= names, "no dependencies are found"
    slugs = names | closure(direct)
    assert {"kombu", "markdown-it-py", "tornado", "s3transfer"} <= slugs
    assert [slug for slug in sorted(slugs) if not refusal("project_slug", slug)] == []
