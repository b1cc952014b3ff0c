"""Changes of answers with `copier update`."""

import re
import shutil
from itertools import permutations
from pathlib import Path

import pytest
from copier import VcsRef, run_update

from support.git import git
from support.projects import BROKERS, OTHER_BROKERS, commit, run
from support.rendering import ANSWERS, CONFIGURATION, ROOT, recorded, render

PAGE = (ROOT / "template" / "docs" / "switching.md").read_text(encoding="utf-8")
SCOPE: dict[str, list[str]] = {
    row[1]: re.findall(r"`([^`]+)`", row[2])
    for row in re.finditer(r"^\| `(\w+)` \| (`.*[./].*`) \|$", PAGE, re.MULTILINE)
}
"""The files and directories that depend on each answer, from the page."""

USERS = tuple(
    re.findall(r"_copier_operation == 'update' %}/(.+?){%", "\n".join(CONFIGURATION["_exclude"]))
)
"""The files and directories that an update does not change."""

OTHERS: dict[str, list[object]] = {
    "project_name": ["Müller & Söhne"],
    "project_slug": ["shop"],
    "description": ["Sells flour."],
    "time_zone": ["Europe/Vienna"],
    "broker_url": [*OTHER_BROKERS],
    "result_backend": ["django-db", "none", "redis://results.example.com:6379/3"],
    "beat_scheduler": ["redbeat", "file"],
    "monitoring": [["flower", "opentelemetry", "prometheus", "sentry"]],
    "kubernetes": [True],
    "ci": ["gitlab", "none"],
}
"""Other answers than the default, for each question."""

EVERYTHING = {"kubernetes": True, "monitoring": ["flower", "opentelemetry", "prometheus", "sentry"]}

DEFAULTS: dict[str, object] = {
    "project_name": "My Project",
    "time_zone": "UTC",
    "beat_scheduler": "database",
    "monitoring": [],
    "kubernetes": False,
    "ci": "github",
}
OPTIONAL = (
    *(".g", "apps/pipeline/metrics/", "apps/pipeline/tests/test_metrics.py"),
    *("apps/pipeline/traces/", "docs/metrics.md", "kubernetes/", "monitoring/"),
)
"""The beginnings of the names of files that depend on an answer."""

TOGETHER: list[dict[str, object]] = [
    {"kubernetes": True},
    {"monitoring": ["flower", "opentelemetry", "prometheus", "sentry"], "beat_scheduler": "file"},
    {"ci": "gitlab", "time_zone": "Europe/Vienna"},
    {"result_backend": "django-db", "project_name": "Müller & Söhne"},
]
"""Answers that change together with the broker, and change back with the next broker."""


def switch(project: Path, **answers: object) -> None:
    """Change answers, as `copier update -r :current: --defaults -d …` does."""
    run_update(
        project, data=answers, vcs_ref=VcsRef.CURRENT, defaults=True, overwrite=True, quiet=True
    )


def files(project: Path) -> dict[str, bytes]:
    """The contents of the files that git does not ignore, by path."""
    listed = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {name for name in listed.split("\0") if name and (project / name).exists()}
    return {name: (project / name).read_bytes() for name in names}


def is_in(name: str, place: str) -> bool:
    """Whether the file is the place, or in it if the place is a directory."""
    return name.startswith(place) if place.endswith("/") else name == place


def follows(name: str, answer: str) -> bool:
    """Whether the page lists the file for the answer."""
    return any(is_in(name, place) for place in SCOPE[answer])


def test_the_page_lists_the_files_of_every_answer() -> None:
    asked = set(ANSWERS) - {"sentinel_master"}  # it depends on the broker
    assert SCOPE.keys() == OTHERS.keys() == asked


def test_an_answer_changes_the_files_that_the_page_lists_and_no_other(
    template: Path, tmp_path: Path
) -> None:
    """Compare new copies with the recorded slug. An update does not change the user's files."""
    plain = tmp_path / "template"
    shutil.copytree(template, plain, ignore=shutil.ignore_patterns(".git"))

    def rendered(**answers: object) -> dict[str, bytes]:
        project = tmp_path / "project"
        render(plain, project, **{"project_slug": "my-project"} | answers)
        found = {
            str(file.relative_to(project)): file.read_bytes()
            for file in project.rglob("*")
            if file.is_file() and file.name not in (".env", ".copier-answers.yml")
        }
        shutil.rmtree(project)
        return {name: content for name, content in found.items() if not name.startswith(USERS)}

    others: dict[str, list[object]] = OTHERS | {
        "broker_url": [*BROKERS.values(), *OTHER_BROKERS],
        "monitoring": [*OTHERS["monitoring"], []],
    }
    changed: dict[str, set[str]] = {name: set() for name in others}
    for answers in ({}, EVERYTHING):
        before = rendered(**answers)
        for name, values in others.items():
            for value in values[-1:] if answers else values:
                after = rendered(**answers | {name: value})
                differing = {
                    file
                    for file in before.keys() | after.keys()
                    if before.get(file) != after.get(file)
                }
                assert not {file for file in differing if not follows(file, name)}, (name, value)
                changed[name] |= differing
    superfluous = {
        (name, place)
        for name, places in SCOPE.items()
        for place in places
        if not any(is_in(file, place) for file in changed[name])
    }
    assert superfluous == set()


def test_a_changed_project_equals_a_new_copy(template: Path, tmp_path: Path) -> None:
    plain = tmp_path / "template"  # without the git history: Copier is faster
    shutil.copytree(template, plain, ignore=shutil.ignore_patterns(".git"))
    for number, (one, other) in enumerate(permutations(BROKERS.values(), 2)):
        there, back = TOGETHER[number % 4], TOGETHER[(number + 1) % 4]
        before = {"broker_url": one, "result_backend": "none", **back}
        project = commit(render(template, tmp_path / f"{number}", **before))
        secret = (project / ".env").read_bytes()
        switch(project, broker_url=other, **DEFAULTS | there)
        answers = {name: it for name, it in recorded(project).items() if name in ANSWERS}
        fresh = render(plain, tmp_path / f"{number}-fresh", **answers)
        git(fresh, "init", "--quiet")
        switched, wanted = files(project), files(fresh)
        assert switched.keys() >= wanted.keys(), (before, other, there)
        # Files of the first copy stay, with the packages that they import, and the answers file
        # lists them. The README is the user's.
        stays = switched.keys() - wanted.keys()
        assert all(name.startswith(OPTIONAL) for name in stays), stays
        packages = [switched.pop("pyproject.toml"), wanted.pop("pyproject.toml")]
        more, fewer = (set(text.splitlines()) for text in packages)
        assert not fewer - more
        imported = {b'    "prometheus-client~=0.26",': "apps/pipeline/metrics/__init__.py"}
        assert {imported[line] for line in more - fewer} <= stays
        changed = {name for name in wanted if switched[name] != wanted[name]}
        assert changed <= {"README.md", ".copier-answers.yml"}
        assert (project / ".env").read_bytes() == secret
        for place in (project, fresh):
            shutil.rmtree(place)


@pytest.mark.parametrize(
    ("before", "change", "becomes"),
    [
        ({}, {"broker_url": BROKERS["amqp"]}, {"result_backend": "django-db"}),
        ({}, {"broker_url": BROKERS["sqs"]}, {"result_backend": "django-db"}),
        (
            {"broker_url": BROKERS["amqp"], "result_backend": "rpc"},
            {"broker_url": BROKERS["redis"]},
            {"result_backend": "redis"},
        ),
        (
            {"beat_scheduler": "redbeat", "result_backend": "none"},
            {"broker_url": BROKERS["amqp"]},
            {"result_backend": "none", "beat_scheduler": "database"},
        ),
        ({}, {"broker_url": BROKERS["sentinel"]}, {"sentinel_master": "mymaster"}),
    ],
)
def test_answers_that_do_not_work_with_the_new_broker_change_to_their_default(
    template: Path,
    tmp_path: Path,
    before: dict[str, str],
    change: dict[str, str],
    becomes: dict[str, str],
) -> None:
    project = commit(render(template, tmp_path / "project", **before))
    switch(project, **change)
    assert becomes.items() <= recorded(project).items()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            "broker_url=amqp://rabbitmq:5672// result_backend=redis",
            "The choice redis stores results in the broker's Redis, but the broker is amqp.",
        ),
        (
            "broker_url=amqp://rabbitmq:5672// beat_scheduler=redbeat",
            "Use database or file: RedBeat needs a Redis broker.",
        ),
        (
            "result_backend=rpc",
            "The choice rpc sends results as RabbitMQ messages, but the broker is redis.",
        ),
    ],
)
def test_the_refusal_of_an_impossible_pair_proposes_another_answer(
    template: Path, tmp_path: Path, answers: str, words: str
) -> None:
    project = commit(render(template, tmp_path / "project"))
    options = [word for answer in answers.split() for word in ("-d", answer)]
    update = ["copier", "update", "-r", ":current:", "--defaults", *options]
    report = run(project, *update, codes=(1,))
    assert report.splitlines()[-1].endswith(words)
    assert git(project, "status", "--porcelain") == ""


def test_the_documented_command_changes_the_answer(template: Path, tmp_path: Path) -> None:
    project = commit(render(template, tmp_path / "project"))
    found = re.search(r"^uvx (copier update .*)$", PAGE, re.MULTILINE)
    assert found
    run(project, *found[1].split())
    assert recorded(project)["broker_url"] == "amqp://rabbitmq:5672//"
    assert "<<<<<<<" not in git(project, "diff")
