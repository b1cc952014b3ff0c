"""Runs `copier copy` in a terminal of 80 columns and 24 lines."""

import contextlib
import os
import select
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest

from support.questionnaire import COLUMNS, ROWS


def answer_questions(arguments: list[str | Path], *turns: tuple[str, str]) -> str:
    """Run `copier copy` in a terminal and return its screens, with the lines of each joined.

    Each turn is a text to wait for and the keys to type then. Because the lines are joined, a text
    may be wrapped.
    """
    pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
    command = [sys.executable, "-m", "copier", "copy", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, environment)  # noqa: S606
    termios.tcsetwinsize(terminal, (ROWS, COLUMNS))
    screen = pyte.Screen(COLUMNS, ROWS)
    stream, screens, deadline = pyte.ByteStream(screen), [], time.monotonic() + 300

    def read() -> bool:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(OSError):  # Linux raises it when the other end is closed
            data = os.read(terminal, 65536) if ready else b""
            stream.feed(data)
            return bool(data)
        return False

    try:
        for expected, answer in turns:
            while expected not in "".join(screen.display):
                assert read(), f"{expected!r} was not shown:\n" + "\n".join(screen.display)
            screens.append("".join(screen.display))
            os.write(terminal, answer.encode())
        while read():
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
    return "\n".join([*screens, "".join(screen.display)])
