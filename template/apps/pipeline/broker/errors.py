"""Formats the URLs and errors of brokers and result backends for messages."""

from collections.abc import Sequence

from kombu.utils.url import maybe_sanitize_url


def listed(urls: str | Sequence[str]) -> list[str]:
    """The URLs of a setting: a list, or a text with ; between them."""
    return urls.split(";") if isinstance(urls, str) else list(urls)


def without_passwords(urls: str | Sequence[str]) -> str:
    """Hide the passwords in a URL, or in several URLs. Between them is a ; then.

    Kombu hides only that of the first URL. Seen in kombu 5.7.0 (not reported yet). Delete the split
    once fixed.
    """
    return ";".join(_without_password(url) for url in listed(urls))


def _without_password(url: str) -> str:
    shown = str(maybe_sanitize_url(url))
    head, _, tail = shown.rpartition("@")
    # A password with a slash that is not escaped looks like a path.
    return f"{url.partition('://')[0]}://**@{tail}" if "/" in head.partition("://")[2] else shown


def short_reason(error: object) -> str:
    """The message of a client's error, without the internals that Sentinel clients add.

    Seen in redis-py 8.1.0 (not reported yet). Delete this once fixed.
    """
    return str(error).partition(" : <")[0]
