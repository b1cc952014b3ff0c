"""Updates from every release, with a user's edits, to the working tree and to a later release."""

import os
import re
from pathlib import Path

import pytest

from support.git import git
from support.projects import commit, run, tree
from support.releases import releases
from support.rendering import ROOT
from support.updating import FUTURE, NEXT, Make, edit, merge, owners, update


@pytest.mark.parametrize("release", releases())
def test_an_updated_project_equals_a_new_copy_with_the_same_edits(
    history: Path, make: Make, release: str
) -> None:
    project = make(history, release)
    edit(project)
    commit(project)
    before = tree(project)

    update(project)

    fresh = make(history, NEXT, "fresh")
    edit(fresh)
    after, expected = tree(project), tree(fresh)
    yours = {name for name in before if "yours" in owners(name)}
    assert {name: after[name] for name in yours} == {name: before[name] for name in yours}
    assert yours - {".env"} == {name for name in expected if "yours" in owners(name)} - {".env"}
    for each in (after, expected):
        for name in yours:
            each.pop(name, None)
    assert after == expected

    commit(project)
    update(project)
    assert git(project, "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def session(future: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An edited project of the oldest release after `just template-update`, and its output.

    The template is cloned with file://, and the user's git configuration is unusual.
    """
    root = tmp_path_factory.mktemp("session")
    git(root, "clone", "--quiet", "--bare", str(future), "template.git")
    project = root / "project"
    url = (root / "template.git").as_uri()
    run(root, "copier", "copy", "--quiet", "--defaults", "--vcs-ref", releases()[0], url, "project")
    edit(project)
    commit(project)
    (root / "words").write_text("Ticket: \n")
    (root / "gitconfig").write_text(
        "[core]\n\tautocrlf = input\n[commit]\n\tgpgSign = true\n\tverbose = true\n"
        f"\ttemplate = {root / 'words'}\n[tag]\n\tgpgSign = true\n"
        "[user]\n\tname = A User\n\temail = user@example.com\n\tsigningKey = none\n"
        "[safe]\n\tdirectory = *\n[gpg]\n\tprogram = false\n[diff]\n\tnoprefix = true\n"
    )
    secrets = (project / ".env").read_bytes()
    printed = run(project, "just", "template-update", GIT_CONFIG_GLOBAL=str(root / "gitconfig"))
    assert (project / ".env").read_bytes() == secrets
    if target := os.environ.get("RECORD_SESSION"):
        Path(target).write_text(printed)
    return project, printed


def test_template_update_prints_its_changes_and_passes_the_checks(
    session: tuple[Path, str],
) -> None:
    project, printed = session
    first, *_ = printed.splitlines()
    assert first == f"Updating from {releases()[0][1:]} to {FUTURE[1:]}."
    assert "- A page about the office." in printed
    assert "Answer: office: Vienna" in printed
    assert "Contracts: 4 kept, 0 broken." in printed
    assert re.search(r"\d+ passed", printed)
    assert printed.splitlines()[-1].startswith("Left to do: ")
    assert (project / "docs/office.md").read_text() == "# The office in Vienna\n"
    assert 'LANGUAGE_CODE = "en-gb"' in (project / "config/settings/base.py").read_text()
    assert '"whitenoise~=6.11"' in (project / "pyproject.toml").read_text()
    assert '"six>=1.16"' in (project / "pyproject.toml").read_text()
    assert not (project / "apps/users/tests/test_services.py").exists()
    assert "hello from the shop" in run(project, "just", "hello")


def test_the_session_in_the_docs_equals_the_output(session: tuple[Path, str]) -> None:
    page = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- session -->\n```text\n(.*?)```", page, re.DOTALL)
    assert block
    recorded, printed = block[1].splitlines()[1:], session[1].splitlines()
    until = printed.index(" ruff check .") if " ruff check ." in printed else 5
    assert recorded[:until] == printed[:until]
    assert recorded[-1] == printed[-1]


def test_a_second_update_says_that_the_version_is_the_newest(session: tuple[Path, str]) -> None:
    project, _ = session
    commit(project)
    newest = f"The project has the newest version of its template, {FUTURE[1:]}.\n"
    assert merge(project) == newest
    assert run(project, "just", "template-status") == newest
    assert git(project, "status", "--porcelain") == ""


def test_only_new_sections_of_the_changelog_are_shown(future: Path, make: Make) -> None:
    """The later version words the head of the changelog and the old sections differently."""
    printed = merge(make(future, NEXT))
    shown = printed.partition(f"to {FUTURE[1:]}.\n")[2].partition("Answer: ")[0]
    lines = [line for line in shown.splitlines() if line and not line.startswith("### ")]
    assert lines == ["## [100.0.0] - 2030-01-01", "- A page about the office."]
