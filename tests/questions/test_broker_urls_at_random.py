"""Broker URLs put together at random: Celery can use each one that is accepted."""

import random
import re
from functools import cache

from support.broker_urls import ACCEPTED, REFUSED, create_result_backend, prepare_connection
from support.questionnaire import broker_refusal, says_what_to_write

GOOD_PARTS = (
    ("", "", "user@", "us%40er@", "u+1@"),
    ("h", "redis", "rabbitmq", "127.0.0.1", "[::1]", "[1:2:3:4:5:6:7::]", "[::1.2.3.4]", "h_1",
     "h."),
    ("", ":6379", ":5672", ":26379", ":65535"),
    ("", "/", "/0", "/1", "/15", "//", "/%2f", "/a/b", "/run/r.sock"),
    ("", "", "?", "?ssl_cert_reqs=required", "?ssl_check_hostname=false", "?virtual_host=1",
     "?heartbeat=10",
     "?login_method=PLAIN", "?ssl_cert_reqs=none&ssl_keyfile=/k"),
)  # fmt: skip
ODD_PARTS = (
    ("@", "a@b@", "ü@", "u=1@", "u[@"),
    ("", "[::1", "::1", "a..b", "-h", "[1:2:3:4:5:6:7:8:9]", "[x]", "[]", "[v1.x]", "[::1]x",
     "%31"),
    (":", ":0", ":65536", ":x", ":1:2", ":-1", ":1e3", ":0x1", ":6_3"),
    ("/1/", "/x", "/%30", "/-1", "/0x1", "/1;", "//1", "/%zz", "/1_0", "/run/"),
    ("?x=1", "?ssl_cert_reqs=bogus", "?virtual_host=x", "?heartbeat=x", "?ssl=1", "?port=1",
     "?db=1", "?=", "?&",
     "?transport=x", "?connect_timeout=x", "?hostname=x", "?ssl_keyfile=k", "?virtual_host=1&x=1"),
)  # fmt: skip


@cache
def odd_urls() -> tuple[str, ...]:
    """URLs of every scheme, mostly of good parts, with some mistakes that people make."""
    dice = random.Random(6379)  # noqa: S311

    def address(scheme: str) -> str:
        parts = zip(GOOD_PARTS, ODD_PARTS, strict=True)
        chosen = (dice.choice(good if dice.random() < 0.9 else odd) for good, odd in parts)
        return f"{scheme}://{''.join(chosen)}"

    urls = []
    for scheme in ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "sqs"):
        for _ in range(400):
            one, other = address(scheme), address(scheme)
            urls += [one, f"{one};{one}", f"{one};{other}"]
    for path in ("/run/r.sock", "/r?virtual_host=1", "/r?virtual_host=x", "/", "", "/%zz"):
        urls += [f"redis+socket://{user}{path}" for user in ("", "user@", "@", "h", "h:1")]
    return tuple(dict.fromkeys(urls))


def test_no_broker_is_accepted_that_kombu_or_celery_refuses() -> None:
    accepted = [url for url in (*odd_urls(), *ACCEPTED) if not broker_refusal(url)]
    assert len(accepted) > 300, "the sample has too few good URLs"
    broken = {}
    for url in accepted:
        try:
            prepare_connection(url)
            if url.startswith(("redis", "sentinel")):
                create_result_backend(url)
        except Exception as error:
            broken[url] = repr(error)
    assert not broken


def test_the_url_that_a_refusal_proposes_is_accepted() -> None:
    messages = {broker_refusal(url) for url in (*odd_urls(), *(url for url, _ in REFUSED))}
    asked = ("broker_url", "result_backend")
    wrong = [m for m in messages - {""} if not all(says_what_to_write(name, m) for name in asked)]
    examples = set(re.findall(r"(?:Use|write|in) ([a-z+]+://[^\s,]*)", " ".join(messages)))
    assert len(examples) > 15
    assert wrong == []
    assert [url for url in examples if broker_refusal(url.rstrip("."))] == []
