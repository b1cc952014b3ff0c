"""Render the template the way people do, for the tests.

`render` answers questions as `copier copy --defaults -d name=value` does, without trust, and
refuses a name that is no question: Copier itself ignores a misspelt one, and the test would then
look at the default.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import yaml
from copier import run_copy

ROOT = Path(__file__).resolve().parent.parent

CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
QUESTIONS: dict[str, dict[str, Any]] = {
    name: details for name, details in CONFIGURATION.items() if not name.startswith("_")
}
ANSWERS: tuple[str, ...] = tuple(
    name for name, details in QUESTIONS.items() if details.get("when") is not False
)
"""The questions that are asked, in their order; the other names are derived from their answers."""


def render(template: Path, destination: Path, **answers: object) -> Path:
    """Copy a project to `destination`, answer the rest with defaults, and return its path.

    Raises ValueError for an answer that the template refuses, and for a name that is no question.
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
    """Copy a project of each of the answers to a directory of its own under `root`, in parallel."""
    plain = root / "template"  # without history, which takes Copier longer
    shutil.copytree(template, plain, ignore=shutil.ignore_patterns(".git"))
    projects = root / "projects"
    projects.mkdir()
    places = [projects / f"project-{number:03}" for number in range(len(answers))]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_render_one, repeat(plain), places, answers))


def _render_one(template: Path, destination: Path, answers: dict[str, Any]) -> Path:
    return render(template, destination, **answers)


def recorded(project: Path) -> dict[str, Any]:
    """What the project's answers file holds, without Copier's own entries."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return {name: answer for name, answer in answers.items() if not name.startswith("_")}
