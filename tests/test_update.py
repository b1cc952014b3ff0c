"""Updates: from every release, with a user's edits, to the template as it is here and beyond."""

import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from conftest import git
from copier import run_update
from projects import environment, run
from releases import releases, unpack
from rendering import CONFIGURATION, QUESTIONS, ROOT, render
from updating import FUTURE, NEXT, Make, commit, edit, replace, tree, write

MOVED: dict[str, str] = {}
"""Files of a release that are gone or renamed since, and the test that proves it harmless."""


def rows() -> dict[str, str]:
    """Whose each pattern of files is, by the table of docs/updates.md."""
    page = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (`.+`) \| (the template's|shared|yours) \|$", page, re.MULTILINE)
    return {pattern: whose for cell, whose in found for pattern in re.findall(r"`(.+?)`", cell)}


def owners(name: str) -> list[str]:
    return [whose for pattern, whose in rows().items() if fnmatchcase(name, pattern)]


def update(project: Path, version: str | None = None, **answers: object) -> None:
    run_update(project, data=answers, vcs_ref=version, defaults=True, overwrite=True, quiet=True)


def merge(project: Path, *, code: int = 0) -> str:
    """What `bin/template merge` says, which ends with this code."""
    return run(project, "sh", "bin/template", "merge", codes=(code,))


@pytest.mark.parametrize("release", releases())
def test_a_release_with_edits_becomes_a_fresh_copy_with_these_edits(
    history: Path, make: Make, release: str
) -> None:
    project = make(history, release)
    edit(project)
    commit(project)
    before = tree(project)

    update(project, NEXT)

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
    update(project, NEXT)
    assert git(project, "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def session(future: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An edited project of the oldest release after `just template-update`, and what that printed.

    It goes through a clone by file://, and the user's git has everything on that could disturb.
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


def test_template_update_tells_what_it_does_and_ends_green(session: tuple[Path, str]) -> None:
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


def test_the_session_in_the_docs_is_what_it_prints(session: tuple[Path, str]) -> None:
    page = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- session -->\n```text\n(.*?)```", page, re.DOTALL)
    assert block
    recorded, printed = block[1].splitlines()[1:], session[1].splitlines()
    until = printed.index(" ruff check .") if " ruff check ." in printed else 5
    assert recorded[:until] == printed[:until]
    assert recorded[-1] == printed[-1]


def test_a_second_update_says_that_there_is_nothing(session: tuple[Path, str]) -> None:
    project, _ = session
    commit(project)
    newest = f"The project has the newest version of its template, {FUTURE[1:]}.\n"
    assert merge(project) == newest
    assert run(project, "just", "template-status") == newest
    assert git(project, "status", "--porcelain") == ""


# What cannot be updated as it is: one sentence, and nothing changed


@pytest.fixture
def project(future: Path, make: Make) -> Path:
    return make(future, NEXT)


def refusal(project: Path) -> str:
    """The one sentence of a refused update, which changes nothing."""
    before = tree(project)
    printed = merge(project, code=1)
    assert tree(project) == before
    (line,) = (line for line in printed.splitlines() if not line.startswith("Updating from "))
    return line


def record(project: Path, pattern: str, new: str) -> None:
    """Edit the answers file by hand, and commit it."""
    file = project / ".copier-answers.yml"
    text, count = re.subn(pattern, new, file.read_text(), flags=re.MULTILINE)
    assert count == 1
    file.write_text(text)
    commit(project)


def test_template_status_names_both_versions(project: Path) -> None:
    words = "The template has version 100.0.0, the project has 99.0.0: run just template-update.\n"
    assert run(project, "just", "template-status") == words
    assert git(project, "status", "--porcelain") == ""


def test_a_dirty_tree_is_refused(project: Path) -> None:
    (project / "draft").touch()
    assert refusal(project).startswith("Commit or stash your changes first")


def test_a_project_without_a_commit_is_refused(future: Path, tmp_path: Path) -> None:
    render(future, tmp_path / "project")
    assert "to git first" in merge(tmp_path / "project", code=1)


@pytest.mark.parametrize("revision", ["v0.0.7", "nonsense", "deadbeef"])
def test_a_commit_that_is_none_is_named(project: Path, revision: str) -> None:
    record(project, "^_commit: .*$", f"_commit: {revision}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_no_commit_is_told(project: Path) -> None:
    record(project, "^_commit: .*$", "_commit: ''")
    assert refusal(project).startswith("Write the template's version")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "https://127.0.0.1:9/template.git"])
def test_a_template_that_is_not_there_is_named(project: Path, source: str) -> None:
    record(project, "^_src_path: .*$", f"_src_path: {source}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_relative_path_is_refused_with_what_to_write(project: Path) -> None:
    record(project, "^_src_path: .*$", "_src_path: ../template")
    assert refusal(project).startswith("The project was copied from the relative path ../template:")


def test_an_answer_that_the_template_refuses_is_named(project: Path) -> None:
    record(project, "^time_zone: .*$", "time_zone: Moon")
    assert "'time_zone': A time zone is UTC or a name of the IANA list" in refusal(project)


def test_an_answer_whose_choice_is_gone_becomes_the_default_and_is_named(
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


def test_a_conflict_is_named_and_ends_with_an_error(project: Path) -> None:
    settings = project / "config/settings/base.py"
    replace(settings, 'LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de-at"')
    commit(project)
    printed = merge(project, code=1)
    assert "\nconfig/settings/base.py\nChoose between the marked lines" in printed
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


def test_a_shallow_clone_of_the_template_serves_what_it_has(
    future: Path, make: Make, tmp_path: Path
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", future.as_uri(), str(shallow))
    project = make(shallow, "HEAD")
    assert merge(project).startswith("The project has the newest version")
    record(project, "^_commit: .*$", f"_commit: {NEXT}")
    assert refusal(project).startswith("The template cannot be used: ")


def test_a_project_of_a_dirty_template_is_updated_or_told(
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


# Guards: what a change to the template may not do to projects of a release


def test_every_file_is_in_exactly_one_row_of_the_table(history: Path, tmp_path: Path) -> None:
    names = {
        name
        for ci in ("github", "gitlab")
        for name in tree(render(history, tmp_path / ci, kubernetes=True, ci=ci))
    }
    assert {name: owners(name) for name in names if len(owners(name)) != 1} == {}
    patterns = rows()
    assert [p for p in patterns if not any(fnmatchcase(name, p) for name in names)] == []


def test_what_is_yours_is_left_out_of_updates(history: Path, tmp_path: Path) -> None:
    """The table and copier.yml say the same."""
    left_out = re.findall(
        r"_copier_operation == 'update' %}/(.+?){%", "\n".join(CONFIGURATION["_exclude"])
    )
    kept = [*left_out, *CONFIGURATION["_skip_if_exists"]]
    yours = {pattern.removesuffix("/**") for pattern, whose in rows().items() if whose == "yours"}
    assert yours == set(kept) - {"uv.lock"}


def sources(template: Path) -> set[str]:
    """The paths of the files that a template can make."""
    root = template / "template"
    files = (file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return {name.removesuffix(".jinja") for name in files}


@pytest.mark.parametrize("release", releases())
def test_the_template_is_safe_for_projects_of_a_release(release: str, tmp_path: Path) -> None:
    unpack(release, tmp_path)
    old = yaml.safe_load((tmp_path / "copier.yml").read_text())
    for name in ("_envops", "_subdirectory", "_templates_suffix", "_answers_file"):
        assert CONFIGURATION[name] == old[name], name
    assert set(CONFIGURATION["_skip_if_exists"]) >= set(old["_skip_if_exists"])

    asked = {name: it for name, it in old.items() if not name.startswith("_")}
    for name, question in asked.items():
        assert name in QUESTIONS or any(
            name in str(it.get("default")) for it in QUESTIONS.values()
        ), f"{name} is asked no more, and no default takes its answer over"
        if name in QUESTIONS:
            assert QUESTIONS[name]["type"] == question["type"], name
            assert values(QUESTIONS[name]) >= values(question), f"{name} lost a choice"

    gone = sources(tmp_path) - sources(ROOT) - MOVED.keys()
    assert not gone, "a file that is gone or renamed needs a test, named in MOVED"


def values(question: dict[str, object]) -> set[str]:
    choices = question.get("choices", {})
    assert isinstance(choices, dict)
    return {str(it["value"] if isinstance(it, dict) else it) for it in choices.values()}


def test_every_question_has_a_default_so_that_updates_can_answer_it() -> None:
    assert [name for name, it in QUESTIONS.items() if "default" not in it] == []


def test_no_tracked_file_depends_on_chance_time_or_place() -> None:
    words = r"random|\bnow\b\s*\(|strftime|uuid|shuffle|_folder_name|dst_path|src_path|copier_conf"
    for file in (ROOT / "template").rglob("*.jinja"):
        code = " ".join(re.findall(r"\{[{%].*?[%}]\}", file.read_text(), re.DOTALL))
        assert file.name == ".env.jinja" or not re.search(words, code), file


def test_the_changelog_is_plain_text_to_jinja() -> None:
    assert not re.search(r"\{[{%#]", (ROOT / "CHANGELOG.md").read_text())
