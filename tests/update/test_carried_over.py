"""Projects of each release are updated with a user's edits, on a machine with uv alone."""

import re
from pathlib import Path

import pytest

from support.bare import bare_environment, run
from support.git import git
from support.projects import commit, tree
from support.releases import releases
from support.updating import NEXT, Make, edit, owners, update

RECIPE = '\n# Say goodbye\n[group("shop")]\ngoodbye:\n    @echo goodbye from the shop\n'


@pytest.fixture(scope="module")
def bare(own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return bare_environment(tmp_path_factory.mktemp("bare"))


@pytest.mark.parametrize("release", releases())
def test_a_project_is_updated_checked_and_tested_with_nothing_but_uv(
    history: Path, bare: dict[str, str], tmp_path: Path, release: str
) -> None:
    uvx = ("uvx", "--quiet", "copier")
    copy = ("copy", "--defaults", "--quiet", "--vcs-ref", release, str(history), "shop")
    run(tmp_path, bare, *uvx, *copy)
    project = tmp_path / "shop"
    edit(project)
    with (project / "justfile").open("a", encoding="utf-8") as recipes:
        recipes.write(RECIPE)
    commit(project)
    before = tree(project)

    # As docs/updates.md says, for the recipe of 0.1.0 needs a copier on PATH.
    run(project, bare, *uvx, "update", "--defaults", "--quiet", "--vcs-ref", NEXT)

    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
    after = tree(project)
    ours = {name for name in before if name.startswith("apps/shop/") or "yours" in owners(name)}
    assert {name: after[name] for name in ours} == {name: before[name] for name in ours}
    just = ("uv", "run", "--quiet", "just")
    assert run(project, bare, *just, "hello") == "hello from the shop\n"
    assert run(project, bare, *just, "goodbye") == "goodbye from the shop\n"
    assert "no issues" in run(project, bare, *just, "check")
    assert re.search(r"\d+ passed", run(project, bare, *just, "test"))
    commit(project)
    assert "has the newest version" in run(project, bare, *just, "template-status")


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_lines_at_the_end_of_a_shared_file_stay(
    history: Path, make: Make, release: str, ci: str
) -> None:
    """So the template leaves the last lines of these files as they are, and adds above them."""
    project = make(history, release, ci=ci, kubernetes=True)
    shared = [project / name for name in tree(project) if owners(name) == ["shared"]]
    assert len(shared) > 15
    for file in shared:
        with file.open("a", encoding="utf-8") as end:
            end.write(RECIPE if file.name == "justfile" else "\n# Of the shop\n")
    commit(project)
    update(project)
    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
    for file in shared:
        assert file.read_text(encoding="utf-8").endswith(("from the shop\n", "# Of the shop\n"))
