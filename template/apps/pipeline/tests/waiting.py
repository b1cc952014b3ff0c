"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

WAIT_TIMEOUT = 60  # seconds


def wait_until(met: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
