"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the most similar known name; empty if none is similar."""
    near = get_close_matches(name, known, n=1, cutoff=0.8)
    return f"Did you mean {near[0]}?" if near else ""
