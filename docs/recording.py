"""Record the first minute of a project as an animated SVG: `just recording`.

A script types the README's commands into a real terminal of 80 columns, on a machine that has only
git and uv, and presses the button of the page. Pauses are cut to PAUSE seconds.
"""

import html
import os
import re
import select
import signal
import sys
import termios
import time
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pyte
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

COLUMNS, ROWS = 80, 24
KEY = 0.05  # seconds between two keys
PAUSE = 1.0  # seconds: the longest pause in the recording
FRAME = 0.1  # seconds: the shortest time between two screens
END = 4.0  # seconds that the last screen stays
TIMEOUT = 120  # seconds until the terminal must show an expected text
PROMPT = "$ "
BACKSPACE, CONTROL_C = "\x7f", "\x03"

WIDTH, HEIGHT = 8.4, 18  # pixels of a character
MARGIN = 14
COLORS = {
    "default": "#e6e8eb",
    "black": "#8b949e",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": "#e6e8eb",
}
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre }
.f { visibility: hidden; animation: step-end infinite; animation-duration: DURATION }
@media (prefers-reduced-motion) { .f { animation: none !important } .last { visibility: visible } }
"""

Line = tuple[tuple[int, str, str, bool], ...]
"""The runs of a line: column, text, color and whether it is bold."""


@dataclass
class Recording:
    """The screens of a terminal, each with the second at which it appeared."""

    screens: list[tuple[float, tuple[Line, ...]]] = field(default_factory=list)
    _clock: float = 0.0
    _seen: float = field(default_factory=time.monotonic)

    def add(self, screen: pyte.Screen) -> None:
        """Add a screen if it differs from the last, at most one per FRAME."""
        lines = tuple(_runs(screen, row) for row in range(screen.lines))
        now = time.monotonic()
        if self.screens:
            self._clock += min(now - self._seen, PAUSE)
        self._seen = now
        if not self.screens or self._clock - self.screens[-1][0] >= FRAME:
            if not self.screens or self.screens[-1][1] != lines:
                self.screens.append((self._clock, lines))
        else:
            self.screens[-1] = (self.screens[-1][0], lines)

    def svg(self) -> str:
        """The recording as an SVG that repeats."""
        length = self.screens[-1][0] + END
        ids: dict[Line, str] = {}
        frames, keyframes = [], []
        for number, (start, lines) in enumerate(self.screens):
            end = self.screens[number + 1][0] if number + 1 < len(self.screens) else length
            keyframes.append(_keyframes(number, start / length * 100, end / length * 100))
            used = "".join(
                f'<use href="#{ids.setdefault(line, f"l{len(ids)}")}" y="{row * HEIGHT}"/>'
                for row, line in enumerate(lines)
                if line
            )
            last = " last" if number + 1 == len(self.screens) else ""
            frames.append(f'<g class="f{last}" style="animation-name:k{number}">{used}</g>')
        width, height = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
                'role="img" aria-label="A terminal: copier copy, just dev, a task">',
                f"<style>{STYLE.replace('DURATION', f'{length:g}s')}{''.join(keyframes)}</style>",
                "<defs>",
                *(f'<g id="{name}">{_text(line)}</g>' for line, name in ids.items()),
                "</defs>",
                f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#14181d"/>',
                f'<g transform="translate({MARGIN} {MARGIN + HEIGHT - 5})">',
                *frames,
                "</g>",
                "</svg>",
                "",
            ]
        )


class Terminal:
    """A shell in a terminal, whose screens are recorded."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        import pty

        self.recording = Recording()
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.chdir(directory)
            os.execve("/bin/sh", ["sh", "-i"], environment)  # noqa: S606 - a program in the PATH
        termios.tcsetwinsize(self._terminal, (ROWS, COLUMNS))

    @property
    def text(self) -> str:
        """What the screen shows, with the lines joined that it has wrapped."""
        lines = (line if line[-1] != " " else line.rstrip() + "\n" for line in self._screen.display)
        return "".join(lines)

    def wait(self, expected: str) -> str:
        """Wait until the screen matches a pattern. Return the match, or raise TimeoutError."""
        deadline = time.monotonic() + TIMEOUT
        while not (found := re.search(expected, self.text)):
            if time.monotonic() > deadline or not self._read(0.1):
                raise TimeoutError(f"{expected!r} is not on the screen:\n{self.text}")
        return found[0]

    def wait_for_prompt(self) -> None:
        """Wait until the shell has written its prompt, and nothing after it."""
        self.wait(rf"(?:\A|\n){re.escape(PROMPT.strip())}\s*\Z")

    def look(self, seconds: float) -> None:
        """Record what appears for some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._read(min(left, 0.1)):
            pass

    def type(self, keys: str) -> None:
        """Type as a person does."""
        for key in keys:
            os.write(self._terminal, key.encode())
            self.look(KEY)

    def close(self) -> None:
        os.close(self._terminal)  # the shell gets SIGHUP
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def _read(self, seconds: float) -> bool:
        """Read and record for a moment. False if the shell has ended."""
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self._stream.feed(os.read(self._terminal, 65536))
            except OSError:  # Linux raises it when the other end is closed
                return False
        self.recording.add(self._screen)
        return True


def first_minute(clone: Path, place: Path, environment: dict[str, str]) -> Recording:
    """Type the README's commands. `clone` is a clone of the template below `place`."""
    shell = {"PS1": PROMPT, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
    terminal = Terminal(place, environment | shell)
    try:
        terminal.wait_for_prompt()
        terminal.type(f"uvx copier copy {clone.name} my-shop\r")
        for question in questions():
            terminal.wait(re.escape(question))
            terminal.look(0.8)
            if question == "What is the project called?":
                terminal.type(BACKSPACE * len("My Project") + "My Shop")
            terminal.type("\r")
        terminal.wait("is ready")
        terminal.wait_for_prompt()
        terminal.type("cd my-shop && git init --quiet && uv run just dev\r")
        page = terminal.wait(r"(?<=development server at )http://127\.0\.0\.1:\d+/")
        terminal.wait(r"celery@\S+ ready")
        press_the_button(page)
        terminal.wait("succeeded")
        terminal.look(PAUSE)
        terminal.type(CONTROL_C)
        terminal.wait_for_prompt()
        return terminal.recording
    finally:
        terminal.close()


def questions() -> list[str]:
    """The first lines of the questions that Copier asks whatever the other answers are."""
    declared = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    asked = [value for value in declared.values() if isinstance(value, dict) and "help" in value]
    return [question["help"].splitlines()[0] for question in asked if "when" not in question]


def press_the_button(page: str) -> None:
    """Send the form of the page, as a browser does."""
    from mechanicalsoup import StatefulBrowser  # type: ignore[import-untyped]

    browser = StatefulBrowser()
    browser.open(page)
    browser.select_form('form[method="post"]')
    browser.submit_selected()


def _runs(screen: pyte.Screen, row: int) -> Line:
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    runs, column = [], 0
    for (color, bold), group in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in group)
        if text.strip():
            runs.append((column, text.rstrip(), color, bold))
        column += len(text)
    return tuple(runs)


def _text(line: Line) -> str:
    """The runs as SVG. `textLength` keeps the columns with any font."""
    return "".join(
        f'<text x="{column * WIDTH:g}" fill="{_color(color)}" font-weight="{400 + 200 * bold}" '
        f'textLength="{len(text) * WIDTH:g}">{html.escape(text, quote=False)}</text>'
        for column, text, color, bold in line
    )


def _color(name: str) -> str:
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else COLORS.get(name, COLORS["default"])


def _keyframes(number: int, start: float, end: float) -> str:
    return (
        f"@keyframes k{number}{{0%{{visibility:hidden}}{start:.3f}%{{visibility:visible}}"
        f"{end:.3f}%{{visibility:hidden}}}}"
    )


def main() -> None:
    from support.bare import bare_environment
    from support.git import git

    with TemporaryDirectory() as name:
        place = Path(name)
        environment = bare_environment(place)
        git(place, "clone", "--quiet", str(ROOT), "home/django-velocity")
        git(place / "home" / "django-velocity", "tag", "v1.0.0")  # so that Copier does not warn
        recording = first_minute(place / "home" / "django-velocity", place / "home", environment)
        target = ROOT / "docs" / "pictures" / "first-minute.svg"
        target.write_text(recording.svg(), encoding="utf-8")
        print(f"{target}: {recording.screens[-1][0]:.0f} s, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
