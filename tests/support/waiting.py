"""Waits for a condition."""

import time
from collections.abc import Callable

WAIT_TIMEOUT = 300  # seconds, for a very busy machine


def wait_until(met: Callable[[], object], what: str, seconds: float = WAIT_TIMEOUT) -> float:
    """Wait until a condition is met, and return the seconds. Raises AssertionError if it is not."""
    started = time.monotonic()
    while not met():
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started
