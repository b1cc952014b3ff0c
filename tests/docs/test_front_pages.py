"""The first pages that people and assistants read: README.md, and AGENTS.md of a project."""

import re
from pathlib import Path

import pytest

from support.projects import run
from support.rendering import ROOT, render
from support.tutorial_steps import blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")
PHONE = 44
"""Characters that a phone shows in a line of code."""

ANSWERS: dict[str, dict[str, object]] = {
    "default": {},
    "least": {"beat_scheduler": "file", "ci": "none", "result_backend": "none"},
    "most": {
        "broker_url": "amqp://rabbitmq:5672//",
        "ci": "gitlab",
        "kubernetes": True,
        "monitoring": ["flower", "opentelemetry", "prometheus", "sentry"],
    },
}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
def test_the_rules_for_assistants_are_true_for_any_answers(
    template: Path, tmp_path: Path, answers: dict[str, object]
) -> None:
    project = render(template, tmp_path / "project", **answers)
    rules = (project / "AGENTS.md").read_text(encoding="utf-8")
    assert len(rules.splitlines()) <= 80  # one page
    places = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\.env|[\w.]+\.(?:md|toml)|justfile)`", rules))
    assert len(places) > 10
    assert [place for place in places if not (project / place).exists()] == []
    recipes = set(run(project, "just", "--summary").split())
    named = set(re.findall(r"(?:run |`)just ([a-z-]+)", rules))
    assert {"check", "test", "app"} <= named <= recipes
    for fixture in ("celery_app", "live_worker"):
        assert fixture in rules
        assert f"def {fixture}(" in (project / "apps/pipeline/testing.py").read_text()


def test_the_readme_shows_its_two_commands_first() -> None:
    [first, *_] = blocks(README)
    assert first.line <= 8
    assert ["copier copy" in line or "just dev" in line for line in first.lines] == [True, True]
    assert max(map(len, first.lines)) <= PHONE


def comparison() -> list[list[str]]:
    """The cells of the comparison's rows."""
    table = README.partition("## Compared")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def test_each_entry_of_the_comparison_has_a_proof() -> None:
    head, *rows = comparison()
    assert len(rows) > 8
    links = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", README, re.MULTILINE))
    named = set()
    for topic, *cells in rows:
        assert len(cells) == len(head) - 1, topic
        for cell in cells:
            proofs = re.findall(r"\]\[([\w-]+)\]", cell)
            assert proofs or cell == "—", (topic, cell)
            named |= set(proofs)
    assert named == links.keys()
    for name, link in links.items():
        if name.startswith("v-") and not link.startswith("#"):
            assert (ROOT / link).exists(), link
        elif "github.com" in link and "/issues/" not in link:
            assert re.search(r"/(blob|tree)/[0-9a-f]{40}/", link), f"{link} may say else tomorrow"


def test_the_comparison_counts_the_questions_that_are_asked() -> None:
    [row] = [row for row in comparison() if row[0] == "questions"]
    asked = re.findall(r"^\| `\w+` \|", README, re.MULTILINE)
    assert row[1].startswith(f"[{len(asked)}]")
