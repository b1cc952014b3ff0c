"""Render the template for tests.

`render` does what `copier copy --defaults -d name=value` does, without trust. It refuses names that
are not questions. Copier ignores a misspelt name, and the test would check the default instead.
Seen in copier 9.19.1 (not reported yet). Delete the check once fixed.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import yaml
from copier import run_copy

ROOT = Path(__file__).resolve().parents[2]

CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
QUESTIONS: dict[str, dict[str, Any]] = {
    name: details for name, details in CONFIGURATION.items() if not name.startswith("_")
}
ANSWERS: tuple[str, ...] = tuple(
    name for name, details in QUESTIONS.items() if details.get("when") is not False
)
"""The questions that Copier asks, in order. The other values are derived from their answers."""


DEFAULTS: dict[str, object] = {
    "project_name": "My Project",
    "project_slug": "my-project",
    "description": "A Django project with Celery workers and scheduled tasks.",
    "time_zone": "UTC",
    "broker_url": "redis://redis:6379/0",
    "result_backend": "redis",
    "beat_scheduler": "database",
    "monitoring": [],
    "kubernetes": False,
    "ci": "github",
}
"""The default answers, as a project records them."""


def render(template: Path, destination: Path, **answers: object) -> Path:
    """Copy a project to `destination` with these answers, else the defaults, and return its path.

    Raises ValueError for an answer that the template refuses and a name that is not a question.
    """
    unknown = sorted(answers.keys() - set(ANSWERS))
    if unknown:
        raise ValueError(f"Not a question of the template: {', '.join(unknown)}.")
    run_copy(
        str(template),
        destination,
        data=answers,
        defaults=True,
        quiet=True,
        unsafe=False,
        vcs_ref="HEAD",
    )
    return destination


def render_all(template: Path, root: Path, answers: Sequence[dict[str, Any]]) -> list[Path]:
    """Copy a project for each of the answers to its own directory under `root`, in parallel."""
    plain = root / "template"  # without the git history: Copier is faster
    shutil.copytree(template, plain, ignore=shutil.ignore_patterns(".git"))
    projects = root / "projects"
    projects.mkdir()
    places = [projects / f"project-{number:03}" for number in range(len(answers))]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_render_one, repeat(plain), places, answers))


def _render_one(template: Path, destination: Path, answers: dict[str, Any]) -> Path:
    return render(template, destination, **answers)


def recorded(project: Path) -> dict[str, Any]:
    """The answers in the project's answers file, without Copier's own entries."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return {name: answer for name, answer in answers.items() if not name.startswith("_")}
