"""Render the template the way people do, for the tests.

`render` answers questions as `copier copy --defaults -d name=value` does, without trust, and
refuses a name that is no question: Copier itself ignores a misspelt one, and the test would then
look at the default.
"""

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


def recorded(project: Path) -> dict[str, Any]:
    """What the project's answers file holds, without Copier's own entries."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return {name: answer for name, answer in answers.items() if not name.startswith("_")}
