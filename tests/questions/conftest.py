"""Fixtures that answer the questions."""

import itertools
from pathlib import Path
from shutil import copy, copytree

import pytest
from kombu.transport import pyamqp

from support.questionnaire import DERIVED, Ask
from support.rendering import ROOT, render


@pytest.fixture(scope="session")
def questionnaire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The questions with a project of two files: the answers and the derived values."""
    directory = tmp_path_factory.mktemp("questionnaire")
    copy(ROOT / "copier.yml", directory)
    copytree(ROOT / "validators", directory / "validators")
    project = directory / "template"
    project.mkdir()
    (project / "{{ _copier_conf.answers_file }}.jinja").write_text(
        "{{ _copier_answers | to_nice_yaml }}"
    )
    (project / "derived.yml.jinja").write_text(
        "".join(f"{name}: {{{{ {name} | to_json }}}}\n" for name in DERIVED)
    )
    return directory


@pytest.fixture
def ask(questionnaire: Path, tmp_path: Path) -> Ask:
    """Render the questionnaire into a new directory."""
    numbers = itertools.count()
    return lambda **answers: render(questionnaire, tmp_path / f"p{next(numbers)}", **answers)


@pytest.fixture(autouse=True)
def no_amqp_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let py-amqp prepare a connection without opening it."""
    monkeypatch.setattr(pyamqp.Connection, "connect", lambda _: None)
