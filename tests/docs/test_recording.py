"""docs/recording.py and the recording in the README."""

import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from support.rendering import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import recording

SVG = "{http://www.w3.org/2000/svg}"
RECORDING = ROOT / "docs" / "pictures" / "first-minute.svg"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """The recording of a short session in a shell."""
    terminal = recording.Terminal(tmp_path, {"PATH": os.environ["PATH"], "PS1": recording.PROMPT})
    try:
        terminal.wait_for_prompt()
        terminal.type(r"printf '\033[31mred <b>\033[0m\n'" + "\r")
        terminal.wait("\nred <b>")
        terminal.wait_for_prompt()
        terminal.type("echo " + "wide" * 30 + "\r")
        terminal.wait("\n" + "wide" * 30)
        return terminal.recording.svg()
    finally:
        terminal.close()


def test_it_shows_what_was_typed_and_printed_in_its_color(recorded: str) -> None:
    shown = texts(recorded)
    assert "red <b>" in shown
    assert r"$ printf '\033[31mred <b>\033[0m\n'" in shown
    assert f'fill="{recording.COLORS["red"]}"' in recorded


def test_each_screen_begins_when_the_one_before_it_ends(recorded: str) -> None:
    times = re.findall(r"hidden}([\d.]+)%{visibility:visible}([\d.]+)%", recorded)
    assert len(times) > 2
    assert times[0][0] == "0.000"
    assert [start for start, _ in times[1:]] == [end for _, end in times[:-1]]
    assert times[-1][1] == "100.000"


def test_without_motion_it_shows_the_last_screen(recorded: str) -> None:
    assert recorded.count('class="f last"') == 1
    assert "prefers-reduced-motion" in recorded


def test_a_text_that_does_not_appear_ends_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "TIMEOUT", 0.3)
    terminal = recording.Terminal(tmp_path, {"PATH": os.environ["PATH"]})
    try:
        with pytest.raises(TimeoutError, match="'never' is not on the screen"):
            terminal.wait("never")
    finally:
        terminal.close()


def test_the_readme_has_the_recording_of_its_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/pictures/first-minute.svg" in readme
    svg = RECORDING.read_text(encoding="utf-8")
    typed = " ".join(texts(svg))
    first, second = re.findall(r"```sh\n(.*?)\n(.*?)\n```", readme)[0]
    assert first.replace("URL", "django-velocity") in typed
    assert second.replace("git init", "git init --quiet") in typed
    for question in recording.questions():
        assert question in typed, f"Record it again with `just recording`: {question}"
    assert "succeeded" in typed
    assert len(svg) < 400_000
    assert "<script" not in svg
