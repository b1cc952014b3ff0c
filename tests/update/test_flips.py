"""Answers that are changed and changed back. No file and no edit of the user is lost."""

import re
from pathlib import Path
from typing import Any

import pytest
from copier import VcsRef, run_update

from support.git import git
from support.projects import commit, tree
from support.rendering import ANSWERS, render
from support.updating import edit

ELSEWHERE = "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0"

FLIPS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # The answer of the project, and the answer in between.
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
    ({}, {"monitoring": ["flower", "opentelemetry", "prometheus", "sentry"]}),
    ({"monitoring": ["opentelemetry", "prometheus"], "kubernetes": True}, {"monitoring": []}),
    ({"kubernetes": True}, {"kubernetes": False}),
    ({"ci": "github"}, {"ci": "none"}),
    ({"ci": "gitlab"}, {"ci": "none"}),
]

CONDITIONAL = {
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    "apps/pipeline/beat/redbeat.py",
    "kubernetes/production/kustomization.yaml",
    "apps/pipeline/traces/spans.py",
    "monitoring/alerts.yml",
}
"""Files that depend on an answer."""

MERGED = {
    ".env.example",
    "Procfile",
    "compose.yaml",
    "config/settings/base.py",
    "config/settings/celery.py",
}


def test_every_question_is_changed_here() -> None:
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
def test_an_answer_that_is_changed_back_restores_the_tree(
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
        ({"monitoring": ["prometheus"]}, "monitoring/alerts.yml"),
    ],
)
def test_files_of_a_later_answer_are_deleted_with_it_and_can_be_restored(
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
    defaults = {"ci": "github", "kubernetes": False, "beat_scheduler": "database", "monitoring": []}
    back = defaults[name]

    answer(project, flip)
    with (project / brought).open("a") as file:
        file.write("# Ours.\n")
    commit(project)
    capsys.readouterr()
    run_update(project, data={name: back}, vcs_ref=VcsRef.CURRENT, defaults=True, overwrite=True)
    shown = re.search(r"(\S+) was deleted, because .*: (git restore .*)", capsys.readouterr().err)
    assert shown
    assert brought.startswith(shown[1])
    assert tree(project) == before
    git(project, *shown[2].split()[1:])
    assert (project / brought).read_text().endswith("# Ours.\n")


@pytest.mark.parametrize(
    ("answers", "flip", "stays", "package"),
    [
        (
            {"monitoring": ["prometheus"]},
            {"monitoring": []},
            "apps/pipeline/metrics/worker.py",
            "prometheus-client",
        ),
        (
            {"beat_scheduler": "redbeat"},
            {"beat_scheduler": "file"},
            "apps/pipeline/beat/redbeat.py",
            "celery-redbeat",
        ),
        (
            {"result_backend": "django-db"},
            {"result_backend": "redis"},
            "apps/pipeline/admin.py",
            "django-celery-results",
        ),
    ],
)
def test_a_file_that_stays_keeps_the_package_that_it_imports(
    template: Path,
    tmp_path: Path,
    answers: dict[str, Any],
    flip: dict[str, Any],
    stays: str,
    package: str,
) -> None:
    project = commit(render(template, tmp_path / "project", **answers))
    assert package.replace("-", "_").removeprefix("celery_") in (project / stays).read_text()
    answer(project, flip)
    assert (project / stays).exists()
    assert f'"{package}~=' in (project / "pyproject.toml").read_text()


def test_the_manifests_of_metrics_are_named_when_they_are_deleted(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = commit(render(template, tmp_path / "project", kubernetes=True))
    answer(project, {"monitoring": ["prometheus"]})
    capsys.readouterr()
    run_update(
        project, data={"monitoring": []}, vcs_ref=VcsRef.CURRENT, defaults=True, overwrite=True
    )
    assert not (project / "kubernetes/metrics").exists()
    deleted = re.findall(r"(\S+) was deleted, because", capsys.readouterr().err)
    assert deleted == ["monitoring", "kubernetes/metrics"]
