"""Updates in unusual repositories, and on machines where git or uv cannot be used."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.bare import bare_environment
from support.git import git
from support.projects import commit, replace, run, tree, write
from support.rendering import render
from support.updating import FUTURE, NEXT, Make, merge
from support.waiting import wait_until

ANSWERS = ".copier-answers.yml"

STATUS = ("sh", "bin/template", "status")


@pytest.fixture
def project(future: Path, make: Make) -> Path:
    return make(future, NEXT)


def test_a_project_that_an_outer_repository_ignores_is_refused(
    future: Path, tmp_path: Path
) -> None:
    write(tmp_path / "outer", {".gitignore": "project/\n"})
    commit(tmp_path / "outer")
    project = render(future, tmp_path / "outer/project")
    replace(project / ANSWERS, FUTURE, NEXT)
    before = tree(project)
    assert "to git first" in merge(project, code=1)
    assert tree(project) == before


def test_an_untracked_file_that_git_hides_is_not_overwritten(project: Path) -> None:
    git(project, "config", "status.showUntrackedFiles", "no")
    write(project, {"docs/office.md": "# Ours\n"})
    assert "Commit or stash your changes first" in merge(project, code=1)
    assert (project / "docs/office.md").read_text() == "# Ours\n"


def test_the_changes_are_shown_whatever_git_shows_them_with(project: Path) -> None:
    git(project, "config", "diff.external", "true")
    git(project, "config", "color.ui", "always")
    printed = merge(project).splitlines()
    assert "- A page about the office." in printed
    assert "Answer: office: Vienna" in printed


def test_a_project_in_a_folder_of_its_repository_gets_paths_from_its_own_folder(
    future: Path, tmp_path: Path
) -> None:
    template, settings = tmp_path / "template", "config/settings/base.py"
    git(tmp_path, "clone", "--quiet", str(future), str(template))
    project = render(template, tmp_path / "all of it/the shop")
    replace(project / settings, 'LANGUAGE_CODE = "en-gb"', 'LANGUAGE_CODE = "de-at"')
    commit(tmp_path / "all of it")
    replace(template / "template" / settings, 'LANGUAGE_CODE = "en-gb"', 'LANGUAGE_CODE = "en-au"')
    (template / "template/docs/page.md").unlink()
    commit(template)
    git(template, "tag", "v101.0.0")
    printed = merge(project, code=1)
    assert "The template moved or removed 1 files, for example docs/page.md." in printed
    assert f"\n{settings}\nResolve the conflicts" in printed


def test_git_settings_do_not_hide_a_conflict_or_drop_an_edit(project: Path) -> None:
    settings = "config/settings/base.py"
    replace(project / settings, 'LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de-at"')
    write(project, {"docs/mine.md": "A space at the end \n", "project.just": "mine:\n    true\n"})
    replace(project / "justfile", "_list:", "# Mine\n_list:")
    commit(project)
    git(project, "config", "apply.whitespace", "error")
    git(project, "config", "status.showUntrackedFiles", "no")
    assert f"\n{settings}\nResolve the conflicts" in merge(project, code=1)
    assert '<<<<<<< before updating\nLANGUAGE_CODE = "de-at"' in (project / settings).read_text()
    assert "# Mine\n_list:" in (project / "justfile").read_text()


def test_the_attributes_and_hooks_of_all_repositories_do_not_drop_an_edit(
    project: Path, tmp_path: Path
) -> None:
    """Copier commits and compares in repositories of its own, where these apply too."""
    replace(project / "justfile", "_list:", "# Mine\n_list:")
    commit(project)
    write(
        tmp_path,
        {
            "attributes": "justfile -diff\n",
            "hooks/prepare-commit-msg": "#!/bin/sh\necho A ticket is missing\nexit 1\n",
            "gitconfig": f"[core]\n\tattributesFile = {tmp_path / 'attributes'}\n"
            f"\thooksPath = {tmp_path / 'hooks'}\n",
        },
    )
    (tmp_path / "hooks/prepare-commit-msg").chmod(0o755)
    run(project, "sh", "bin/template", "merge", GIT_CONFIG_GLOBAL=str(tmp_path / "gitconfig"))
    assert "# Mine\n_list:" in (project / "justfile").read_text()
    assert (project / "docs/office.md").exists()


def test_an_update_that_fails_halfway_is_undone(project: Path) -> None:
    """A directory that git ignores is where the new version has a file."""
    replace(project / "justfile", "_list:", "# Mine\n_list:")
    write(project, {"docs/office.md/plan": "A\n", ".git/info/exclude": "/docs/office.md\n"})
    commit(project)
    before = tree(project)
    printed = merge(project, code=1)
    assert printed.endswith("The update stopped halfway, and was undone.\n")
    assert tree(project) == before
    assert not git(project, "status", "--porcelain")


COPIER = """#!/bin/sh
case "$*" in
    *check-update*) echo '{"update_available": true, "current_version": 1, "latest_version": 2}' ;;
    *) rm justfile && touch new && exec sleep 100 ;;
esac
"""


def test_an_update_is_undone_on_ctrl_c(project: Path, tmp_path: Path) -> None:
    write(tmp_path, {"uv": COPIER})
    (tmp_path / "uv").chmod(0o755)
    before = tree(project)
    process = subprocess.Popen(
        ["sh", "bin/template", "merge"],
        cwd=project,
        env=os.environ | {"UV": str(tmp_path / "uv")},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    wait_until(lambda: (project / "new").exists(), "Copier has changed files")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == "Copier was stopped.\nThe update stopped halfway, and was undone.\n"
    assert (process.returncode, tree(project)) == (1, before)


def test_a_lock_file_that_cannot_be_updated_is_an_error(project: Path) -> None:
    replace(
        project / "pyproject.toml",
        "updates change only the lines above.\n",
        'updates change only the lines above.\n    "shop @ file:///nowhere/at/all",\n',
    )
    (project / "uv.lock").touch()
    commit(project)
    assert merge(project, code=1).splitlines()[-1] == (
        "The update is in your working tree, but uv lock fails: see above. "
        "Correct pyproject.toml, and run: uv lock && uv run just check test"
    )


@pytest.mark.parametrize("command", ["status", "merge", "version"])
def test_answers_that_cannot_be_read_are_refused(project: Path, command: str) -> None:
    template = ("sh", "bin/template", command)
    with (project / ANSWERS).open("a") as answers:
        answers.write("<<<<<<< before updating\nci: none\n=======\nci: gitlab\n>>>>>>> after\n")
    assert run(project, *template, codes=(1,)) == (
        f"Resolve the conflict in {ANSWERS}, and commit.\n"
    )
    (project / ANSWERS).unlink()
    assert run(project, *template, codes=(1,)) == f"Restore {ANSWERS} from git.\n"


def test_without_git_the_message_is_to_install_it(project: Path, tmp_path: Path) -> None:
    programs = bare_environment(tmp_path / "bare")["PATH"]
    (Path(programs) / "git").unlink()
    assert run(project, *STATUS, codes=(1,), PATH=programs) == "Install git.\n"


def test_a_repository_of_another_user_is_refused_with_the_words_of_git(project: Path) -> None:
    printed = run(
        project, *STATUS, codes=(1,), GIT_TEST_ASSUME_DIFFERENT_OWNER="1", GIT_CONFIG_COUNT="0"
    )
    assert printed.startswith("fatal: detected dubious ownership")


def test_without_a_network_the_message_does_not_blame_the_template(
    project: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    printed = run(project, *STATUS, codes=(1,), UV_OFFLINE="1", UV_CACHE_DIR=cache)
    assert printed.startswith("uv cannot download Copier. Check the network.")
    assert "_src_path" not in printed
