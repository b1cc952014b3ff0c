"""Answers that are changed and changed back: nothing is lost, the user's edits least of all."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import git
from copier import VcsRef, run_update
from rendering import ANSWERS, render
from updating import commit, edit, tree

ELSEWHERE = "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0"

FLIPS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # What the project has, and what is answered in between.
    ({}, {"project_name": "Our Shop"}),
    ({}, {"project_slug": "our-shop"}),
    ({}, {"description": "Sells bread."}),
    ({}, {"time_zone": "Asia/Kolkata"}),
    (
        {"broker_url": "redis://redis:6379/0", "result_backend": "redis"},
        {"broker_url": "amqp://rabbitmq:5672//", "result_backend": "rpc"},
    ),
    ({"broker_url": "redis://redis:6379/0"}, {"broker_url": ELSEWHERE, "sentinel_master": "shop"}),
    ({}, {"result_backend": "django-db"}),
    ({"beat_scheduler": "redbeat"}, {"beat_scheduler": "file"}),
    ({}, {"monitoring": ["flower", "prometheus", "sentry"]}),
    ({"kubernetes": True}, {"kubernetes": False}),
    ({"ci": "github"}, {"ci": "none"}),
    ({"ci": "gitlab"}, {"ci": "none"}),
]

CONDITIONAL = {
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    "apps/pipeline/beat/redbeat.py",
    "kubernetes/production/kustomization.yaml",
}
"""Files that there are for one answer and not for another."""

MERGED = {"Procfile", "compose.yaml", "config/settings/base.py", "config/settings/celery.py"}


def test_every_answer_is_flipped() -> None:
    assert {name for _, flip in FLIPS for name in flip} == set(ANSWERS)


def answer(project: Path, answers: dict[str, Any]) -> None:
    run_update(
        project, data=answers, vcs_ref=VcsRef.CURRENT, defaults=True, overwrite=True, quiet=True
    )
    commit(project)


@pytest.mark.parametrize(
    ("answers", "flip"),
    FLIPS,
    ids=["-".join(flip) + "-" + str(n) for n, (_, flip) in enumerate(FLIPS)],
)
def test_an_answer_flipped_and_flipped_back_leaves_the_tree_as_it_was(
    template: Path, tmp_path: Path, answers: dict[str, Any], flip: dict[str, Any]
) -> None:
    project = render(template, tmp_path / "project", **answers)
    edit(project)
    for name in CONDITIONAL | MERGED:
        if (project / name).exists():
            with (project / name).open("a") as file:
                file.write("# Ours.\n")
    commit(project)
    before = tree(project)
    original = {
        "project_name": "My Project",
        "project_slug": "my-project",
        "description": "A Django project with Celery workers and scheduled tasks.",
        "time_zone": "UTC",
        "result_backend": "redis",
        "monitoring": [],
    } | answers

    answer(project, flip)
    between = tree(project)
    assert between != before
    assert before.keys() <= between.keys()
    for name in (CONDITIONAL | MERGED) & before.keys():
        assert between[name].endswith(b"# Ours.\n"), name

    answer(project, {name: original[name] for name in flip if name in original})
    assert tree(project) == before


@pytest.mark.parametrize(
    ("flip", "brought"),
    [
        ({"ci": "gitlab"}, ".gitlab-ci.yml"),
        ({"kubernetes": True}, "kubernetes/production/kustomization.yaml"),
        ({"beat_scheduler": "redbeat"}, "apps/pipeline/beat/redbeat.py"),
    ],
)
def test_what_a_later_answer_brought_goes_with_it_and_says_how_to_get_it_back(
    template: Path,
    tmp_path: Path,
    flip: dict[str, Any],
    brought: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = render(template, tmp_path / "project")
    commit(project)
    before = tree(project)
    (name,) = flip
    back = {"ci": "github", "kubernetes": False, "beat_scheduler": "database"}[name]

    answer(project, flip)
    with (project / brought).open("a") as file:
        file.write("# Ours.\n")
    commit(project)
    capsys.readouterr()
    run_update(project, data={name: back}, vcs_ref=VcsRef.CURRENT, defaults=True, overwrite=True)
    said = re.search(r"(\S+) went with its answer.*: (git restore .*)", capsys.readouterr().err)
    assert said
    assert brought.startswith(said[1])
    assert tree(project) == before
    git(project, *said[2].split()[1:])
    assert (project / brought).read_text().endswith("# Ours.\n")
