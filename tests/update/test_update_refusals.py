"""Projects that cannot be updated. The command prints one sentence and changes nothing."""

import re
import subprocess
from pathlib import Path

import pytest

from support.git import git
from support.projects import commit, environment, replace, run, tree, write
from support.rendering import render
from support.updating import FUTURE, NEXT, Make, merge


@pytest.fixture
def project(future: Path, make: Make) -> Path:
    return make(future, NEXT)


def refusal(project: Path) -> str:
    """The message of a refused update, which changes nothing."""
    before = tree(project)
    printed = merge(project, code=1)
    assert tree(project) == before
    (line,) = (line for line in printed.splitlines() if not line.startswith("Updating from "))
    return line


def record(project: Path, pattern: str, new: str) -> None:
    """Edit the answers file, and commit it."""
    file = project / ".copier-answers.yml"
    text, count = re.subn(pattern, new, file.read_text(), flags=re.MULTILINE)
    assert count == 1
    file.write_text(text)
    commit(project)


def test_template_status_names_both_versions(project: Path) -> None:
    assert run(project, "just", "template-status") == (
        "The template has version 100.0.0, and the project has 99.0.0. Run just template-update.\n"
    )
    assert git(project, "status", "--porcelain") == ""


def test_a_dirty_tree_is_refused(project: Path) -> None:
    (project / "draft").touch()
    assert refusal(project).startswith("Commit or stash your changes first")


@pytest.mark.parametrize("place", ["core.excludesFile", "the default"])
def test_tracked_files_that_the_user_ignores_everywhere_are_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Copier does not have these files in its copies, and would lose the edit."""
    with (project / "AGENTS.md").open("a") as agents:
        agents.write("\nSell bread.\n")
    write(project, {".gitignore": (project / ".gitignore").read_text() + "/Procfile\n"})
    commit(project)
    ignore = tmp_path / "home/git/ignore"
    write(tmp_path, {"home/git/ignore": "AGENTS.md\n*.env\n"})
    if place == "core.excludesFile":
        write(tmp_path, {"gitconfig": f"[core]\n\texcludesFile = {ignore}\n"})
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert refusal(project) == (
        "Git ignores these tracked files, and an update would lose your changes in them. "
        f"Remove the patterns: {ignore}:1:AGENTS.md matches AGENTS.md"
    )
    ignore.write_text("*.env\n")
    merge(project)
    assert (project / "AGENTS.md").read_text().endswith("\nSell bread.\n")


@pytest.mark.parametrize("option", ["--assume-unchanged", "--skip-worktree"])
def test_changes_that_git_hides_are_refused(project: Path, option: str) -> None:
    """Copier would overwrite them, because the tree looks clean."""
    replace(project / "compose.yaml", "image: postgres:17", "image: postgres:16")
    git(project, "update-index", option, "compose.yaml")
    assert git(project, "status", "--porcelain") == ""
    undone = option.replace("--", "--no-")
    assert re.fullmatch(
        f"Git hides your changes in these files, .* {undone}.*: compose.yaml",
        refusal(project),
    )
    git(project, "update-index", undone, "compose.yaml")
    assert git(project, "status", "--porcelain") == " M compose.yaml\n"
    git(project, "stash")
    merge(project)


def test_files_that_a_sparse_checkout_leaves_out_are_no_changes(project: Path) -> None:
    git(project, "sparse-checkout", "set", "--no-cone", "/*", "!/docs")
    assert not (project / "docs").exists()
    merge(project)


def test_a_project_without_a_commit_is_refused(future: Path, tmp_path: Path) -> None:
    render(future, tmp_path / "project")
    assert "to git first" in merge(tmp_path / "project", code=1)


@pytest.mark.parametrize("revision", ["v0.0.7", "nonsense", "deadbeef"])
def test_an_unknown_commit_is_refused(project: Path, revision: str) -> None:
    record(project, "^_commit: .*$", f"_commit: {revision}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_missing_commit_is_refused(project: Path) -> None:
    record(project, "^_commit: .*$", "_commit: ''")
    assert refusal(project).startswith("Write the version of the template")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "https://127.0.0.1:9/template.git"])
def test_a_missing_template_is_refused(project: Path, source: str) -> None:
    record(project, "^_src_path: .*$", f"_src_path: {source}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_wrong_relative_path_is_refused(project: Path) -> None:
    record(project, "^_src_path: .*$", "_src_path: ../template")
    assert refusal(project).startswith("There is no template at the relative path ../template.")


def test_an_invalid_answer_is_refused(project: Path) -> None:
    record(project, "^time_zone: .*$", "time_zone: Moon")
    assert refusal(project) == (
        "Correct time_zone in .copier-answers.yml, and commit. Use UTC or one like Europe/Vienna. "
        "A time zone is UTC or a name of the IANA database, which consists of an area and a place."
    )


def test_an_answer_without_its_choice_changes_to_the_default(
    future: Path, make: Make, tmp_path: Path
) -> None:
    repository = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(future), str(repository))
    project = make(repository, FUTURE, ci="gitlab")
    replace(repository / "copier.yml", "    GitLab CI: gitlab\n", "")
    git(repository, "commit", "--quiet", "--all", "--message", "Less")
    git(repository, "tag", "v101.0.0")
    assert "Answer: ci: github" in merge(project)
    assert (project / ".gitlab-ci.yml").exists()


def test_a_conflict_is_an_error_that_lists_the_file(project: Path) -> None:
    settings = project / "config/settings/base.py"
    replace(settings, 'LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de-at"')
    commit(project)
    printed = merge(project, code=1)
    assert "\nconfig/settings/base.py\nResolve the conflicts" in printed
    assert 'LANGUAGE_CODE = "de-at"' in settings.read_text()
    assert (project / "docs/office.md").exists()


def test_a_template_without_tags_is_updated_from_commit_to_commit(
    future: Path, make: Make, tmp_path: Path
) -> None:
    repository = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(future), str(repository))
    git(repository, "reset", "--quiet", "--hard", "HEAD~1")
    project = make(repository, "HEAD")
    git(repository, "reset", "--quiet", "--hard", "origin/main")
    merge(project)
    assert (project / "docs/office.md").exists()


def test_a_shallow_clone_of_the_template_can_be_used(
    future: Path, make: Make, tmp_path: Path
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", future.as_uri(), str(shallow))
    project = make(shallow, "HEAD")
    assert merge(project).startswith("The project has the newest version")
    record(project, "^_commit: .*$", f"_commit: {NEXT}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_project_of_a_dirty_template_is_updated_or_refused(
    future: Path, make: Make, tmp_path: Path
) -> None:
    repository = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(future), str(repository))
    write(repository, {"template/docs/draft.md": "# A draft\n"})
    project = make(repository, "HEAD")
    assert (project / "docs/draft.md").exists()
    (repository / "template/docs/draft.md").unlink()
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Later")
    git(repository, "tag", "v101.0.0")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_checkout_with_crlf_is_updated(project: Path, future: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", str(project), str(clone))
    assert b"\r\n" in (clone / "manage.py").read_bytes()
    process = subprocess.run(
        ["copier", "update", "--defaults", "--quiet"],
        cwd=clone,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    assert git(clone, "diff", "--name-only", "--diff-filter=U") == ""
    assert 'LANGUAGE_CODE = "en-gb"' in (clone / "config/settings/base.py").read_text()
