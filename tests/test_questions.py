"""The questions: what they accept, what they refuse and in which words, and what follows."""

# ruff: noqa: RUF001  names in many scripts are what is tested

import contextlib
import itertools
import keyword
import os
import random
import re
import select
import subprocess
import sys
import time
import tomllib
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest
import yaml
from celery import Celery
from conftest import copy_tree, git
from copier import run_copy
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from kombu import Connection
from kombu.transport import pyamqp
from rendering import ANSWERS, CONFIGURATION, QUESTIONS, ROOT, recorded, render

DERIVED = tuple(name for name in QUESTIONS if name not in ANSWERS)

# --- Ways to ask ---


@pytest.fixture(scope="session")
def questionnaire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The questions with a project that writes down every answer and every derived value."""
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


Ask = Callable[..., Path]


@pytest.fixture
def ask(questionnaire: Path, tmp_path: Path) -> Ask:
    """Render the questionnaire into a new directory."""
    numbers = itertools.count()
    return lambda **answers: render(questionnaire, tmp_path / f"p{next(numbers)}", **answers)


def derived(project: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((project / "derived.yml").read_text(encoding="utf-8"))
    return values


ENVIRONMENT = SandboxedEnvironment(
    loader=FileSystemLoader(ROOT),
    extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
    **{**CONFIGURATION["_envops"], "undefined": StrictUndefined},
)
VALIDATORS = {
    name: ENVIRONMENT.from_string(details["validator"])
    for name, details in QUESTIONS.items()
    if "validator" in details
}


def refusal(question: str, answer: str, **others: str) -> str:
    """What the question's validator says to an answer: Copier's own way, a hundred times faster."""
    return VALIDATORS[question].render({**others, question: answer}).strip()


def broker_refusal(url: str) -> str:
    return refusal("broker_url", url)


def says_what_to_write(message: str) -> bool:
    """Whether the message is one sentence that tells a way out."""
    one = message[:1].isupper() and message.endswith(".") and not re.search(r"[.!?]\s", message)
    return one and "\n" not in message and bool(re.search(r"\b(write|leave|choose)\b", message))


def refused(question: str, answer: str, about: str, **others: str) -> None:
    message = refusal(question, answer, **others)
    assert message, f"{answer!r} was accepted"
    assert says_what_to_write(message), message
    assert about in message, message


# --- The questionnaire as a whole ---


def test_the_questions_come_in_the_order_in_which_a_person_thinks() -> None:
    assert ANSWERS == (
        "project_name",
        "project_slug",
        "description",
        "time_zone",
        "broker_url",
        "result_backend",
        "sentinel_master",
        "beat_scheduler",
        "monitoring",
        "kubernetes",
        "ci",
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_every_question_has_a_type_a_default_and_a_line_of_help(name: str) -> None:
    question = QUESTIONS[name]
    assert question["type"] in {"str", "bool"}
    assert "default" in question
    assert re.search(r"\?.*\.$", question["help"]), "asks, and then says the consequence"
    assert len(question["help"]) <= 250


def test_the_template_never_needs_trust() -> None:
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(CONFIGURATION)


def test_the_defaults_give_the_system_of_the_specification(ask: Ask) -> None:
    project = ask()
    assert recorded(project) == {
        "project_name": "My Project",
        "project_slug": "my-project",
        "description": "A Django project with Celery workers and scheduled tasks.",
        "time_zone": "UTC",
        "broker_url": "redis://redis:6379/0",
        "result_backend": "redis",
        "beat_scheduler": "database",
        "monitoring": [],
        "kubernetes": False,
        "ci": "github",
    }
    assert derived(project) == {
        "broker_scheme": "redis",
        "broker_kind": "redis",
        "stack_broker": "redis",
        "broker_in_stack": True,
        "redis_in_stack": True,
        "parts": ["github"],
    }


def test_a_misspelt_answer_is_an_error_in_the_tests(ask: Ask) -> None:
    with pytest.raises(ValueError, match="Not a question of the template: broker_ulr"):
        ask(broker_ulr="sqs://")


def test_a_derived_value_cannot_be_answered_in_the_tests(ask: Ask) -> None:
    with pytest.raises(ValueError, match="broker_kind"):
        ask(broker_kind="amqp")


@pytest.mark.parametrize("prefix", ["", "git+file://"], ids=["path", "clone"])
def test_the_judges_are_found_in_a_git_repository(
    template: Path, tmp_path: Path, prefix: str
) -> None:
    with pytest.raises(ValueError, match="names no host"):
        run_copy(
            f"{prefix}{template}",
            tmp_path / "project",
            data={"broker_url": "redis:///0"},
            defaults=True,
            quiet=True,
        )
    assert not (tmp_path / "project").exists()


def test_pytest_copie_renders_the_committed_copy(copie: Any, template: Path) -> None:
    assert copie.default_template_dir == template
    result = copie.copy(extra_answers={"broker_url": "redis://elsewhere:70000/0"})
    assert result.exit_code == -1
    assert "The port is a number from 1 to 65535" in str(result.exception)


# --- Names and sentences ---

ODD_NAMES = [
    "Café Zürich",
    "Bob’s Shop & Sons <GmbH>",
    "Bob's Shop",
    'The "Best" Shop of Bob\'s',
    "日本の店",
    "متجري",
    "فروشگاه\u200cمن",  # a joiner inside a Persian word
    "Shop 🛒",
    "Women in Tech 👩\u200d💻",
    "100% #1: [yes] $HOME @all!",
    "- dashes: first",
    "on",
    "1.0",
    "x" * 60,
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_recorded_as_it_was_written(ask: Ask, name: str) -> None:
    answers = recorded(ask(project_name=name, project_slug="my-shop", description=name))
    assert answers["project_name"] == name
    assert answers["description"] == name


@pytest.mark.parametrize("name", ['Bob\'s "Best" Shop', "100% #1: [yes] $HOME & <b>"])
def test_an_odd_name_reads_the_same_in_every_file(
    template: Path, tmp_path: Path, name: str
) -> None:
    project = render(
        template, tmp_path / "project", project_name=name, project_slug="shop", description=name
    )
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["description"] == name
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n\n{name}\n")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("\t", "is empty"),
        (" Shop", "starts or ends with a blank"),
        ("Shop ", "starts or ends with a blank"),
        ("My\nShop", "cannot be seen"),
        ("My\tShop", "cannot be seen"),
        ("My\x00Shop", "cannot be seen"),
        ("My\x1b[31mShop", "cannot be seen"),
        ("My\u202eShop", "cannot be seen"),
        ("My\u2028Shop", "cannot be seen"),
        ("My\u200bShop", "cannot be seen"),
        ("The `Shop`", "a backtick, a brace or a backslash"),
        ("{{ Shop }}", "a backtick, a brace or a backslash"),
        ("{Shop", "a backtick, a brace or a backslash"),
        ("Shop}", "a backtick, a brace or a backslash"),
        ("My\\Shop", "a backtick, a brace or a backslash"),
        ("x" * 201, "is the most"),
    ],
)
@pytest.mark.parametrize("question", ["project_name", "description"])
def test_a_text_that_would_break_a_file_is_refused(question: str, text: str, about: str) -> None:
    refused(question, text, about)


def test_a_name_may_have_60_characters_and_a_description_200() -> None:
    refused("project_name", "x" * 61, "61 characters")
    assert not refusal("description", "x" * 200)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Café Zürich", "cafe-zurich"),
        ("Cafe\u0301 Zu\u0308rich", "cafe-zurich"),  # the same in combining characters
        ("Straße", "strasse"),
        ("Ærø & Øster Ægir", "aero-oster-aegir"),
        ("İstanbul ışık", "istanbul-isik"),
        ("Łódź", "lodz"),
        ("Đà Nẵng", "da-nang"),
        ("Bob’s Shop", "bobs-shop"),
        ('Bob\'s "Shop"', "bobs-shop"),
        ("  --Shop__2.0!! ", "shop-2-0"),
        ("日本 Shop", "shop"),
        ("3D Shop", "project-3d-shop"),
        ("Django", "django-project"),
        ("Test", "test-project"),
        ("Django Celery Beat", "django-celery-beat-project"),
        (
            "The longest name that anybody has ever given to a project of",
            "the-longest-name-that-anybody-has-ever-g",
        ),
        ("Thirty-nine letters and then a hyphen ab cd", "thirty-nine-letters-and-then-a-hyphen-ab"),
    ],
)
def test_the_slug_is_made_of_the_name(name: str, slug: str) -> None:
    proposed = ENVIRONMENT.from_string(QUESTIONS["project_slug"]["default"]).render(
        project_name=name
    )
    assert proposed == slug
    assert not refusal("project_slug", slug)


def test_every_accented_latin_letter_has_a_plain_one_in_the_slug() -> None:
    fold = ENVIRONMENT.from_string(QUESTIONS["project_slug"]["default"])
    for point in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        letter = chr(point)
        base = unicodedata.normalize("NFKD", letter)[0]
        if letter.isalpha() and base.isascii() and base.isalpha():
            slug = fold.render(project_name=f"x{letter}x")
            assert slug[1:-1].startswith(base.lower()), f"{letter} became {slug}"


def test_a_name_without_a_latin_letter_needs_a_slug_of_its_own(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"write one yourself, -d project_slug=my-shop") as error:
        ask(project_name="日本の店")
    assert says_what_to_write(str(error.value).partition(": ")[2])
    assert not list(tmp_path.iterdir())
    assert (
        recorded(ask(project_name="日本の店", project_slug="my-shop"))["project_slug"] == "my-shop"
    )


@pytest.mark.parametrize("slug", ["a", "my-shop", "shop2", "a-1-b", "x" * 40, "django-shop"])
def test_a_good_slug_is_accepted(slug: str) -> None:
    assert not refusal("project_slug", slug)


@pytest.mark.parametrize(
    ("slug", "about"),
    [
        ("", "no Latin letter"),
        ("x" * 41, "40 is the most"),
        *[
            (slug, "lower-case Latin letters")
            for slug in (
                "My-Shop", "my_shop", "my shop", "2shop", "-shop", "shop-", "my--shop", "café",
                "shop\n", "a.b", "a/b",
                "ſhop", "shop\u0662",
            )
        ],
        ("class", "Python language"),
        ("none", "Python language"),
        ("match", "Python language"),
        ("json", "standard library"),
        ("py-compile", "standard library"),
        ("django", "depends on"),
        ("celery", "depends on"),
        ("redis", "depends on"),
        ("kombu", "depends on"),
        ("django-celery-beat", "depends on"),
        ("sentry-sdk", "depends on"),
        ("con", "Windows"),
        ("lpt9", "Windows"),
        ("config", "folder"),
        ("apps", "folder"),
        ("tests", "folder"),
        ("docs", "folder"),
    ],
)  # fmt: skip
def test_a_slug_that_would_shadow_or_break_something_is_refused(slug: str, about: str) -> None:
    refused("project_slug", slug, about)


def test_no_word_of_the_language_or_standard_library_is_a_slug() -> None:
    words = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
    slugs = {word.lower().replace("_", "-") for word in words if not word.startswith("_")}
    assert [slug for slug in sorted(slugs) if not refusal("project_slug", slug)] == []


def test_no_dependency_of_the_project_is_a_slug() -> None:
    text = (ROOT / "template" / "pyproject.toml.jinja").read_text(encoding="utf-8")
    found = re.findall(r'"([A-Za-z][\w.-]*)(?:\[[^\]"]*\])?\s*(?:[~<>=!]=|[<>])[^"]*"', text)
    slugs = {re.sub(r"[-_.]+", "-", name).lower() for name in found}
    assert {"django", "celery"} <= slugs, "the pattern no longer finds dependencies"
    assert [slug for slug in sorted(slugs) if not refusal("project_slug", slug)] == []


# --- Time zones ---


def test_the_time_zones_are_those_of_the_iana_database() -> None:
    module: Any = ENVIRONMENT.get_template("validators/zones.jinja").module
    areas: dict[str, list[str]] = module.areas
    listed = [f"{area}/{place}" for area, places in areas.items() for place in places]
    offered = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    assert sorted(listed) == sorted(zone for zone in offered if "/" in zone)


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "US/Samoa", "Etc/GMT+5"]
)
def test_a_time_zone_of_the_database_is_accepted(zone: str) -> None:
    assert not refusal("time_zone", zone)


@pytest.mark.parametrize(
    ("zone", "written"),
    [
        ("", "Europe/Vienna"),
        ("Mars/Olympus", "Europe/Vienna"),
        ("CET", "Europe/Vienna"),
        ("+02:00", "Europe/Vienna"),
        ("utc", "UTC"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("Europe/Berlin ", "Europe/Berlin"),
        ("Europe/Berlin\n", "Europe/Berlin"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_the_one_that_was_meant(
    zone: str, written: str
) -> None:
    refused("time_zone", zone, f"write {written}, for example")


# --- Brokers ---

GOOD_BROKERS = [
    "redis://redis:6379/0",
    "redis://redis:6379/15",
    "redis://redis",
    "redis://redis/",
    "redis://redis:6379",
    "redis://Redis:6379/0",
    "redis://localhost",
    "redis://127.0.0.1:6380/5",
    "redis://10.0.0.7:65535/99999",
    "redis://[::1]:6379/0",
    "redis://[2001:db8::7]",
    "redis://[::ffff:10.0.0.7]:6379/0",
    "redis://[1:2:3:4:5:6:7:8]/1",
    "redis://my_cache:1/0",
    "redis://cache.example.com.:6379/0",
    "redis://worker@cache.example.com:6379/0",
    "redis://work%40er@cache.example.com:6379/0",
    "redis://cache:6379/0?",
    "redis://master.shop.abc123.euw1.cache.amazonaws.com:6379/0",
    "rediss://cache.example.com:6379/0",
    "rediss://redis:6380/7",
    "rediss://cache.example.com:6379/0?ssl_cert_reqs=required",
    "rediss://cache.example.com:6379/0?ssl_cert_reqs=none&ssl_check_hostname=false",
    "rediss://user@cache.example.com/1?ssl_cert_reqs=optional&ssl_ca_certs=/etc/ssl/ca.pem",
    "rediss://h/0?ssl_cert_reqs=required&ssl_certfile=/run/c.pem&ssl_keyfile=/run/k.pem",
    "redis+socket:///run/redis/redis.sock",
    "redis+socket:///run/redis/redis.sock?virtual_host=3",
    "redis+socket:///var/run/my%20redis/r.sock",
    "redis+socket://worker@/run/redis.sock",
    "sentinel://sentinel:26379",
    "sentinel://sentinel:26379/3",
    "sentinel://one:26379;sentinel://two:26379;sentinel://three:26379",
    "sentinel://one:26379;sentinel://two:26379/0",
    "sentinel://one:26379/2;sentinel://two:26379/2",
    "sentinel://[::1]:26379;sentinel://[::2]:26379/0",
    "sentinel://user@one:26379;sentinel://user@two:26379",
    "amqp://rabbitmq",
    "amqp://rabbitmq:5672//",
    "amqp://guest@rabbitmq:5672//",
    "amqp://rabbitmq:5672/%2f",
    "amqp://mq.example.com/",
    "amqp://user@mq.example.com:5672/shop",
    "amqp://mq.example.com:5672/%2Fshop%20one",
    "amqp://mq.example.com/a/b",
    "amqp://mq.example.com//?heartbeat=30",
    "amqp://mq.example.com/shop?heartbeat=30&login_method=EXTERNAL",
    "amqp://one;amqp://two",
    "amqp://one//;amqp://two/%2F;amqp://three",
    "amqp://user@one:1/shop;amqp://user@two:2/shop",
    "amqps://mq.example.com:5671/shop",
    "amqps://one:5671//;amqps://two:5671//",
    "sqs://",
    "sqs:///",
    "sqs://localhost:9324",
    "sqs://elasticmq:9324/",
    "sqs://sqs.example.com",
]

BAD_BROKERS = [
    ("", "empty URL"),
    ("   ", "empty URL"),
    ("redis://h:6379/0 ", "holds a blank"),
    (" redis://h", "holds a blank"),
    ("redis://h\n", "holds a blank"),
    ("redis://h/\t0", "holds a blank"),
    ("redis://h/\x000", "holds a blank"),
    ("redis://h'/0", "a quote"),
    ('redis://h"/0', "a quote"),
    ("redis://`h`/0", "a quote"),
    ("redis://{h}/0", "a brace"),
    ("redis://{{ h }}/0", "a brace"),
    ("redis://h\\x/0", "another character"),
    ("redis://$HOST/0", "another character"),
    ("redis://ünï.example.com/0", "another character"),
    ("redis://h/٣", "another character"),
    ("redis://h:６３７９/0", "another character"),
    ("amqp://h/my|vhost", "another character"),
    ("redis://h/0#1", "write %23"),
    ("redis://h#x/0", "write %23"),
    ("amqp://h/%zz", "%25"),
    ("amqp://h/100%", "%25"),
    ("amqp://h/a%0ab", "stands for nothing readable"),
    ("amqp://h/a%00", "stands for nothing readable"),
    ("redis", "no scheme"),
    ("localhost:6379", "no scheme"),
    ("redis:/h/0", "no scheme"),
    ("redis:h", "no scheme"),
    ("//h/0", "no scheme"),
    ("REDIS://h/0", "lower case: write redis://"),
    ("Amqps://h//", "lower case: write amqps://"),
    ("REDIS+SOCKET:///run/r.sock", "lower case: write redis+socket://"),
    ("SQS://", "lower case: write sqs://"),
    ("://h", "has to be one of redis, rediss, redis+socket, sentinel, amqp, amqps and sqs"),
    ("kafka://h", "has to be one of redis,"),
    ("http://h", "has to be one of redis,"),
    ("https://sqs.eu-west-1.amazonaws.com/1/q", "has to be one of redis,"),
    ("memory://", "has to be one of redis,"),
    ("os.path:x://h", "has to be one of redis,"),
    ("redis+redis://h", "has to be one of redis,"),
    ("amqp+x://h", "has to be one of redis,"),
    ("rabbitmq://h", "called amqp:// by Celery"),
    ("pyamqp://h//", "called amqp:// by Celery"),
    ("RabbitMQ://h", "called amqp:// by Celery"),
    ("valkey://h:6379/0", "called redis:// by Celery"),
    ("valkeys://h:6379/0", "called rediss:// by Celery"),
    ("redis+sentinel://h", "called sentinel:// by Celery"),
    ("redis-sentinel://h", "called sentinel:// by Celery"),
    ("unix:///run/redis.sock", "called redis+socket:// by Celery"),
    ("redis://", "names no host"),
    ("redis:///0", "names no host"),
    ("redis://:6379/0", "names no host"),
    ("amqp://", "names no host"),
    ("amqp:////", "names no host"),
    ("amqps://:5671//", "names no host"),
    ("amqp://user@/vhost", "names no host"),
    ("rediss:///0?ssl_cert_reqs=required", "names no host"),
    ("sentinel://", "names no host"),
    ("sqs://:9324", "names no host"),
    ("redis://a..b/0", "The host is a name"),
    ("redis://-h/0", "The host is a name"),
    ("redis://.h/0", "The host is a name"),
    ("redis://h%2fx/0", "The host is a name"),
    ("amqp://%68ost", "The host is a name"),
    ("redis://h,i/0", "The host is a name"),
    ("redis://" + "h" * 64, "The host is a name"),
    ("redis://[h]:6379/0", "The host is a name"),
    ("redis://[::1/0", "The host is a name"),
    ("redis://[]/0", "The host is a name"),
    ("redis://[::1]x/0", "The host is a name"),
    ("redis://[1:2:3:4:5:6:7]/0", "The host is a name"),
    ("redis://[1::2::3]/0", "The host is a name"),
    ("redis://[:::]/0", "The host is a name"),
    ("redis://[12345::]/0", "The host is a name"),
    ("redis://[1:2:3:4:5:6:7:8:9]/0", "The host is a name"),
    ("redis://[::256.1.1.1]/0", "The host is a name"),
    ("redis://[::01.1.1.1]/0", "The host is a name"),
    ("redis://[10.0.0.7]/0", "The host is a name"),
    ("redis://[fe80::1%25eth0]/0", "The host is a name"),
    ("redis://::1:6379/0", "in brackets"),
    ("redis://2001:db8::7/0", "in brackets"),
    ("amqp://h:1:2//", "in brackets"),
    ("redis://h:/0", "The port is a number"),
    ("redis://h:0/0", "The port is a number"),
    ("redis://h:65536/0", "The port is a number"),
    ("redis://h:99999/0", "The port is a number"),
    ("redis://h:abc/0", "The port is a number"),
    ("redis://h:-1/0", "The port is a number"),
    ("redis://h:+63/0", "The port is a number"),
    ("redis://h:6_3/0", "The port is a number"),
    ("redis://h:006379/0", "The port is a number"),
    ("redis://[::1]:0/0", "The port is a number"),
    ("amqp://h:x//", "The port is a number"),
    ("sqs://localhost:99999", "The port is a number"),
    ("sentinel://h1:26379,h2:26379/0", "in brackets"),
    ("sentinel://h1:26379;sentinel://h2:x/0", "The port is a number"),
    ("sentinel://h", "The port of a Sentinel"),
    ("sentinel://h1:26379;sentinel://h2", "The port of a Sentinel"),
    ("redis://h/abc", "The database of a Redis"),
    ("redis://h/-1", "The database of a Redis"),
    ("redis://h/+1", "The database of a Redis"),
    ("redis://h/1_0", "The database of a Redis"),
    ("redis://h/01", "The database of a Redis"),
    ("redis://h/1/", "The database of a Redis"),
    ("redis://h//1", "The database of a Redis"),
    ("redis://h/0/0", "The database of a Redis"),
    ("redis://h/%30", "The database of a Redis"),
    ("redis://h/100000", "The database of a Redis"),
    ("rediss://h/x", "The database of a Redis"),
    ("sentinel://h:1/x", "The database of a Redis"),
    ("sentinel://h1:1/0;sentinel://h2:1/abc", "The database of a Redis"),
    ("redis+socket://run/redis.sock", "third slash"),
    ("redis+socket://var/run/x.sock", "third slash"),
    ("redis+socket://", "third slash"),
    ("redis+socket:///", "third slash"),
    ("redis+socket:///run/", "third slash"),
    ("redis+socket:///run//r.sock", "third slash"),
    ("redis+socket://h:6379/run/r.sock", "third slash"),
    ("redis+socket:///run/r.sock?virtual_host=x", "number of the database after a question mark"),
    ("redis+socket:///run/r.sock?virtual_host=", "number of the database after a question mark"),
    ("redis+socket:///run/r.sock?db=2", "number of the database after a question mark"),
    ("redis+socket:///run/a;b.sock", "list of servers"),
    ("amqp://h/my[vhost]", "virtual host"),
    ("amqp://h/a=b&c", "virtual host"),
    ("redis://h/0?db=3", "no options"),
    ("redis://h?foo=1", "no options"),
    ("redis://h/0?ssl=true", "no options"),
    ("redis://h/0?ssl_cert_reqs=required", "or rediss://"),
    ("redis://h/0?virtual_host=3", "no options"),
    ("redis://h/0?credential_provider=os.system", "no options"),
    ("rediss://h/0?ssl_cert_reqs=bogus", "ssl_cert_reqs=required"),
    ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", "ssl_cert_reqs=required"),
    ("rediss://h/0?ssl_cert_reqs=", "ssl_cert_reqs=required"),
    ("rediss://h/0?ssl_ca_certs=ca.pem", "absolute paths"),
    ("rediss://h/0?foo=1", "ssl_cert_reqs=required"),
    ("rediss://h/0?ssl_cert_reqs=required&foo=1", "ssl_cert_reqs=required"),
    ("rediss://h/0?ssl_cert_reqs=required&", "ssl_cert_reqs=required"),
    ("sentinel://h:1?virtual_host=2", "no options"),
    ("amqp://h//?foo=1", "heartbeat"),
    ("amqp://h//?heartbeat=abc", "heartbeat"),
    ("amqp://h//?connect_timeout=3", "heartbeat"),
    ("amqp://h//?transport=memory", "heartbeat"),
    ("amqps://h//?ssl_ca_certs=/ca.pem", "CELERY_BROKER_USE_SSL"),
    ("redis://u@v@h/0", "write %40"),
    ("redis://@h/0", "write %40"),
    ("redis://u!x@h/0", "write %40"),
    ("redis://u[x@h/0", "write %40"),
    ("amqp://h/a@b", "write %40"),
    ("redis://a/0;redis://b/0", "list of servers"),
    ("rediss://a/0;rediss://b/0", "list of servers"),
    ("sqs://a;sqs://b", "list of servers"),
    ("redis://h/0;", "list of servers"),
    ("amqp://a;b", "the same scheme"),
    ("amqp://a;", "the same scheme"),
    ("amqp://a;;amqp://b", "the same scheme"),
    ("amqp://a;amqps://b", "the same scheme"),
    ("sentinel://a:1;b:1/0", "the same scheme"),
    ("sentinel://a:1;redis://b:1/0", "the same scheme"),
    ("amqp://a;amqp://b/shop", "the same database or virtual host"),
    ("amqp://u@a;amqp://b", "the same user"),
    ("sentinel://a:1;sentinel://b:1/3", "the same database"),
    ("sentinel://a:1/3;sentinel://b:1", "the same database"),
    ("redis://redis:6380/0", "starts itself, at port 6379"),
    ("redis://REDIS:6380/0", "starts itself, at port 6379"),
    ("redis://user@redis:6379/0", "without users"),
    ("redis://redis:6379/16", "databases 0 to 15"),
    ("amqp://rabbitmq:5673//", "starts itself, at port 5672"),
    ("amqp://shop@rabbitmq//", "with the user guest"),
    ("amqp://rabbitmq/shop", "the virtual host /"),
    ("sqs://localhost:9324/queue", "write sqs:// alone"),
    ("sqs://?region=eu-west-1", "write sqs:// alone"),
    ("sqs://sqs.eu-west-1.amazonaws.com", "write sqs:// alone"),
    ("redis://" + "h." * 250, "500 is the most"),
]

SECRETS = [
    "redis://:S3cret@h:6379/0",
    "redis://user:S3cret@h:6379/0",
    "redis://user:@h",
    "redis://:@h",
    "redis://user%3AS3cret@h/0",
    "redis://user%3aS3cret@h/0",
    "redis://:S3%40cret@h/0",
    "redis://:S3@cret@h/0",
    "redis://:S3/cret@h/0",
    "redis://:S3?cret@h/0",
    "redis://:S3#cret@h/0",
    "redis://:S3;cret@h/0",
    "redis://:S3 cret@h/0",
    "redis://user:S3:cret@h/0",
    "rediss://:S3cret@h:6379/0?ssl_cert_reqs=required",
    "redis+socket://:S3cret@/run/redis.sock",
    "redis+socket:///run/redis.sock?password=S3cret",
    "redis://h/0?password=S3cret",
    "redis://h/0?PASSWORD=S3cret",
    "redis://h/0?x=1&pwd=S3cret",
    "redis://h/0?token=S3cret",
    "sentinel://:S3cret@a:26379;sentinel://b:26379/0",
    "sentinel://a:26379;sentinel://:S3cret@b:26379/0",
    "amqp://guest:guest@rabbitmq:5672//",
    "amqp://a:5672;amqp://u:S3cret@b:5672",
    "amqps://user:S3cret@h:5671/shop",
    "rabbitmq://user:S3cret@h",
    "REDIS://:S3cret@h",
    "kafka://user:S3cret@h",
]


@pytest.mark.parametrize("url", GOOD_BROKERS)
def test_a_broker_that_celery_connects_to_is_accepted(url: str) -> None:
    connect_nowhere(url)
    assert not broker_refusal(url)


@pytest.mark.parametrize(("url", "about"), BAD_BROKERS)
def test_a_broker_that_could_not_work_is_refused_with_what_to_write(url: str, about: str) -> None:
    refused("broker_url", url, about)


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_is_refused_with_its_place_and_without_repeating_it(url: str) -> None:
    refused("broker_url", url, "CELERY_BROKER_URL in .env or the environment")
    assert "S3" not in broker_refusal(url)
    if url.startswith(("redis", "sentinel")):
        refused("result_backend", url, "CELERY_RESULT_BACKEND in .env", broker_kind="redis")


@pytest.mark.parametrize(
    "url", ["sqs://AKIA:S3cret@", "sqs://AKIA@", "sqs://AKIA:S3/cret@localhost:9324", "sqs://@",
            "sqs://?aws_secret_access_key=S3cret", "SQS://AKIA:S3cret@"],
)  # fmt: skip
def test_aws_keys_are_refused_with_their_place(url: str) -> None:
    refused("broker_url", url, "AWS_SECRET_ACCESS_KEY in .env or the environment")
    assert "S3" not in broker_refusal(url)


def test_the_environment_variable_is_spelt_as_the_settings_read_it() -> None:
    refused("broker_url", "redis://:x@h", "CELERY_BROKER_URL")


def test_a_judge_says_what_copier_says(ask: Ask) -> None:
    for url in ("redis://h/abc", "amqp://u:S3cret@h", "", "sentinel://a:1;b"):
        with pytest.raises(ValueError, match="question 'broker_url'") as error:
            ask(broker_url=url)
        assert str(error.value).partition(": ")[2] == broker_refusal(url)


def connect_nowhere(url: str) -> None:
    """Work out all that kombu needs to connect to each address of `url`, short of the network.

    Raises whatever kombu, redis-py and py-amqp raise for a URL that they cannot use.
    """
    connection = Connection(url, transport_options={"master_name": "mymaster"})
    for address in url.split(";"):
        if ";" in url:
            connection.switch(address)
        connection.info()
        connection.as_uri()
        transport: Any = connection.transport
        if transport.driver_type == "redis":
            channel: Any = object.__new__(transport.Channel)  # its __init__ pings the server
            channel.connection, channel.master_name = transport, "mymaster"
            pool = channel._get_pool()
            if not url.startswith("sentinel"):
                pool.make_connection()
        elif transport.driver_type == "amqp":
            transport.establish_connection()
        else:
            channel = object.__new__(transport.Channel)
            channel.connection = transport
            _ = channel.endpoint_url


@pytest.fixture(autouse=True)
def no_amqp_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyamqp.Connection, "connect", lambda _: None)


def store_nowhere(url: str) -> None:
    """Make the result backend of `url`; Celery makes its connection parameters at once."""
    app = Celery("nowhere", broker="memory://", backend=url, set_as_current=False)
    app.conf.redis_backend_use_ssl = {"ssl_cert_reqs": "required"} if "rediss" in url else None
    app.conf.result_backend_transport_options = {"master_name": "mymaster"}
    _ = app.backend


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
    """URLs of every scheme: most of their parts are good, some are wrong in a way people write."""
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
    accepted = [url for url in (*odd_urls(), *GOOD_BROKERS) if not broker_refusal(url)]
    assert len(accepted) > 300, "the sample hardly holds a good URL"
    broken = {}
    for url in accepted:
        try:
            connect_nowhere(url)
            if url.startswith(("redis", "sentinel")):
                store_nowhere(url)
        except Exception as error:
            broken[url] = repr(error)
    assert not broken


def test_what_a_refusal_tells_to_write_is_accepted() -> None:
    messages = {broker_refusal(url) for url in (*odd_urls(), *(url for url, _ in BAD_BROKERS))}
    wrong = [message for message in messages - {""} if not says_what_to_write(message)]
    examples = set(re.findall(r"(?:write|or|in) ([a-z+]+://[^\s,]*)", " ".join(messages)))
    assert len(examples) > 15
    assert wrong == []
    assert [url for url in examples if broker_refusal(url.rstrip("."))] == []


# --- What follows from the broker ---


@pytest.mark.parametrize(
    ("url", "kind", "stack"),
    [
        ("redis://redis:6379/0", "redis", "redis"),
        ("redis://REDIS/3", "redis", "redis"),
        ("redis://redis?", "redis", "redis"),
        ("redis://redis.example.com/0", "redis", ""),
        ("redis://redis@elsewhere/0", "redis", ""),
        ("redis://rabbitmq:6379/0", "redis", ""),
        ("redis://[::1]/0", "redis", ""),
        ("rediss://redis:6379/0", "redis", ""),
        ("redis+socket:///run/redis/redis.sock", "redis", ""),
        ("sentinel://redis:26379", "sentinel", ""),
        ("sentinel://one:26379;sentinel://redis:26379", "sentinel", ""),
        ("amqp://rabbitmq", "amqp", "rabbitmq"),
        ("amqp://guest@rabbitmq:5672//?heartbeat=10", "amqp", "rabbitmq"),
        ("amqp://rabbitmq;amqp://other", "amqp", ""),
        ("amqp://redis", "amqp", ""),
        ("amqps://rabbitmq:5671//", "amqp", ""),
        ("sqs://", "sqs", ""),
        ("sqs://redis:9324", "sqs", ""),
    ],
)
def test_compose_ships_a_broker_exactly_when_the_host_is_its_service(
    url: str, kind: str, stack: str
) -> None:
    assert not broker_refusal(url)
    values: dict[str, object] = {"broker_url": url, "result_backend": "none"}
    for name in DERIVED[: DERIVED.index("parts")]:
        default = ENVIRONMENT.from_string(QUESTIONS[name]["default"])
        values[name] = default.render(values)
    assert values["broker_scheme"] == url.partition("://")[0]
    assert values["broker_kind"] == kind
    assert values["stack_broker"] == stack
    assert values["broker_in_stack"] == str(bool(stack))
    assert values["redis_in_stack"] == str(stack == "redis")


def test_compose_ships_a_redis_for_results_alone(ask: Ask) -> None:
    values = derived(ask(broker_url="amqp://rabbitmq", result_backend="redis://redis:6379/1"))
    assert (values["stack_broker"], values["redis_in_stack"]) == ("rabbitmq", True)
    values = derived(ask(broker_url="sqs://", result_backend="redis://elsewhere:6379/1"))
    assert (values["stack_broker"], values["redis_in_stack"]) == ("", False)


def test_derived_values_are_not_recorded(ask: Ask) -> None:
    assert set(recorded(ask(broker_url="sentinel://h:26379"))) == set(ANSWERS)


# --- Results ---

BROKERS = {
    "redis": "redis://redis:6379/0",
    "sentinel": "sentinel://one:26379;sentinel://two:26379/0",
    "amqp": "amqp://rabbitmq:5672//",
    "sqs": "sqs://",
}


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("redis", "redis"), ("sentinel", "redis"), ("amqp", "django-db"), ("sqs", "django-db")],
)
def test_results_go_to_the_broker_where_it_is_a_redis_and_else_to_the_database(
    ask: Ask, kind: str, answer: str
) -> None:
    assert recorded(ask(broker_url=BROKERS[kind]))["result_backend"] == answer


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("redis", "redis"),
        ("sentinel", "redis"),
        ("redis", "django-db"),
        ("amqp", "rpc"),
        ("sqs", "none"),
        ("redis", "redis://elsewhere:6379/1"),
        ("amqp", "rediss://elsewhere:6379/1"),
        ("sqs", "redis+socket:///run/r.sock"),
        ("amqp", "sentinel://one:26379;sentinel://two:26379"),
    ],
)
def test_a_place_for_results_is_recorded_as_written(ask: Ask, kind: str, answer: str) -> None:
    project = ask(broker_url=BROKERS[kind], result_backend=answer)
    assert recorded(project)["result_backend"] == answer
    if "://" in answer:
        store_nowhere(answer)


@pytest.mark.parametrize(
    ("kind", "answer", "about"),
    [
        ("amqp", "redis", "write django-db, or the URL of a Redis"),
        ("sqs", "redis", "write django-db, or the URL of a Redis"),
        ("redis", "rpc", "messages of RabbitMQ, and the broker is redis: write redis"),
        ("sentinel", "rpc", "messages of RabbitMQ"),
        ("sqs", "rpc", "messages of RabbitMQ, and the broker is sqs: write django-db"),
        ("redis", "", "redis, django-db, rpc, none or the URL of a Redis: write redis"),
        ("sqs", "database", "redis, django-db, rpc, none or the URL of a Redis: write django-db"),
        ("redis", "Redis", "redis, django-db, rpc, none"),
        ("redis", "redis ", "redis, django-db, rpc, none"),
        ("amqp", "rpc://", "one of redis, rediss, redis+socket and sentinel"),
        ("amqp", "amqp://rabbitmq//", "one of redis, rediss, redis+socket and sentinel"),
        ("redis", "db+postgresql://db/results", "one of redis, rediss, redis+socket and sentinel"),
        ("redis", "cache+memcached://h:11211", "one of redis, rediss, redis+socket and sentinel"),
        ("redis", "disabled://", "one of redis, rediss, redis+socket and sentinel"),
        ("redis", "valkey://h", "called redis://"),
        ("redis", "redis://h/abc", "The database of a Redis"),
        ("redis", "redis://h:0/1", "The port is a number"),
        ("redis", "redis:///1", "names no host"),
        ("redis", "redis://a/0;redis://b/0", "list of servers"),
        ("amqp", "redis://redis:6380/0", "starts itself, at port 6379"),
        ("redis", "sentinel://h", "The port of a Sentinel"),
    ],
)
def test_a_place_for_results_that_could_not_work_is_refused(
    kind: str, answer: str, about: str
) -> None:
    refused("result_backend", answer, about, broker_kind=kind)


def test_the_help_names_every_place_for_results_and_the_impossible_pairs() -> None:
    text = QUESTIONS["result_backend"]["help"]
    assert all(name in text for name in ("redis", "django-db", "rpc", "none", "URL"))
    assert "An amqp or sqs broker has no redis" in text
    assert "only an amqp broker has rpc" in text


# --- Sentinel ---


@pytest.mark.parametrize(
    "answers",
    [
        {"broker_url": "sentinel://h:26379"},
        {"broker_url": "amqp://h", "result_backend": "sentinel://h:26379"},
    ],
)
def test_the_master_is_asked_for_where_a_sentinel_is(ask: Ask, answers: dict[str, str]) -> None:
    assert recorded(ask(**answers))["sentinel_master"] == "mymaster"
    assert recorded(ask(**answers, sentinel_master="shop-1.a_B"))["sentinel_master"] == "shop-1.a_B"


def test_the_master_is_not_asked_for_elsewhere(ask: Ask) -> None:
    assert "sentinel_master" not in recorded(ask())
    assert "sentinel_master" not in recorded(ask(sentinel_master="shop"))


@pytest.mark.parametrize(
    "name", ["", " ", "my master", "my\nmaster", "my/master", "mäster", "x" * 65]
)
def test_a_master_that_a_sentinel_could_not_have_is_refused(name: str) -> None:
    refused("sentinel_master", name, "write mymaster")


# --- Choices ---


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h", "redis+socket:///run/r.sock", "sentinel://h:26379"],
)
def test_redbeat_goes_with_every_redis(ask: Ask, url: str) -> None:
    assert recorded(ask(broker_url=url, beat_scheduler="redbeat"))["beat_scheduler"] == "redbeat"


@pytest.mark.parametrize("kind", ["amqp", "sqs"])
def test_redbeat_is_refused_without_a_redis(ask: Ask, kind: str) -> None:
    with pytest.raises(ValueError, match="Invalid choice for 'beat_scheduler'") as error:
        ask(broker_url=BROKERS[kind], beat_scheduler="redbeat")
    message = str(error.value).partition(": ")[2]
    assert says_what_to_write(message), message
    assert "RedBeat needs a Redis broker: choose database or file" in message


@pytest.mark.parametrize(
    ("question", "answer"),
    [("beat_scheduler", "cron"), ("ci", "jenkins"), ("monitoring", ["grafana"])],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(
    ask: Ask, question: str, answer: object
) -> None:
    with pytest.raises(ValueError, match=rf"'{question}': .* is not in \["):
        ask(**{question: answer})


def test_monitoring_takes_any_number_of_choices(ask: Ask) -> None:
    everything = ["flower", "prometheus", "sentry"]
    assert recorded(ask(monitoring=everything))["monitoring"] == everything
    assert recorded(ask(monitoring="[sentry, flower]"))["monitoring"] == ["flower", "sentry"]


# --- Files ---


@pytest.fixture(scope="session")
def tree(questionnaire: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with every file that an answer decides on, its namesakes, and what lies around."""
    directory = tmp_path_factory.mktemp("tree") / "template"
    copytree(questionnaire, directory)
    for name in [
        "apps/pipeline/beat/redbeat.py", "apps/tasks/redbeat.py", ".github/workflows/ci.yml",
        "docs/.github/ci.yml",
        ".gitlab-ci.yml", "docs/.gitlab-ci.yml", "kubernetes/web.yaml", "docs/kubernetes/page.md",
        "docs/kubernetes.md",
        "apps/__pycache__/a.cpython-311.pyc", "apps/b.pyc", ".DS_Store", "~draft",
        ".venv/pyvenv.cfg", "uv.lock",
        ".ruff_cache/x", ".mypy_cache/x", ".pytest_cache/x", "copier.yml", ".env",
    ]:  # fmt: skip
        path = directory / "template" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from the template\n")
    return directory


NAMESAKES = {
    "apps/tasks/redbeat.py", "docs/.github/ci.yml", "docs/.gitlab-ci.yml",
    "docs/kubernetes/page.md",
    "docs/kubernetes.md", "derived.yml", ".copier-answers.yml", ".env",
}  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "conditional"),
    [
        ({}, {".github/workflows/ci.yml"}),
        ({"ci": "gitlab"}, {".gitlab-ci.yml"}),
        ({"ci": "none"}, set()),
        ({"ci": "none", "kubernetes": True}, {"kubernetes/web.yaml"}),
        ({"ci": "none", "beat_scheduler": "redbeat"}, {"apps/pipeline/beat/redbeat.py"}),
    ],
)
def test_an_answer_decides_on_its_own_files_and_on_no_others(
    tree: Path, tmp_path: Path, answers: dict[str, Any], conditional: set[str]
) -> None:
    project = render(tree, tmp_path / "project", **answers)
    names = {p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()}
    assert names == NAMESAKES | conditional


def test_the_secrets_and_the_lock_file_of_a_project_are_never_overwritten(
    tree: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").write_text("SECRET=mine\n")
    (project / "uv.lock").write_text("mine\n")
    run_copy(str(tree), project, defaults=True, overwrite=True, quiet=True)
    assert (project / ".env").read_text() == "SECRET=mine\n"
    assert (project / "uv.lock").read_text() == "mine\n"


# --- The command line ---


def copier(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "copier", "copy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=60)


def test_the_command_line_ends_in_the_sentence_and_leaves_nothing_behind(
    questionnaire: Path, tmp_path: Path
) -> None:
    url = "redis://:S3cret@h"
    process = copier("--defaults", "-d", f"broker_url={url}", questionnaire, tmp_path / "shop")
    assert process.returncode != 0
    assert process.stderr.splitlines()[-1].endswith(broker_refusal(url))
    assert "S3cret" not in process.stdout + process.stderr
    assert not (tmp_path / "shop").exists()


def test_a_refused_choice_leaves_a_directory_that_was_there_as_it_was(
    questionnaire: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine\n")
    process = copier(
        "--defaults", "-d", "broker_url=sqs://", "-d", "beat_scheduler=redbeat", questionnaire,
        tmp_path
    )  # fmt: skip
    assert process.returncode != 0
    assert process.stderr.splitlines()[-1].endswith("choose database or file.")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_line_ends_with_what_to_do_next(questionnaire: Path, tmp_path: Path) -> None:
    process = copier("--defaults", "-d", "monitoring=[sentry]", questionnaire, tmp_path / "shop")
    assert process.returncode == 0, process.stderr
    assert f"cd {tmp_path / 'shop'} && git init && uv run just dev" in process.stderr
    assert recorded(tmp_path / "shop")["monitoring"] == ["sentry"]


# --- A person at a terminal ---

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>][A-Z0-9]?|\r")


def converse(arguments: list[str | Path], *turns: tuple[str, str]) -> str:
    """Run `copier copy` at a terminal and return what it showed.

    Each turn waits for a text, and then types.
    """
    pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
    command = [sys.executable, "-m", "copier", "copy", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, environment)  # noqa: S606
    shown, deadline = "", time.monotonic() + 60

    def read() -> bool:
        nonlocal shown
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(OSError):  # Linux says so when the other end is closed
            data = os.read(terminal, 65536) if ready else b""
            shown += ESCAPES.sub("", data.decode("utf-8", "replace"))
            return bool(data)
        return False

    try:
        seen = 0
        for expected, answer in turns:
            while expected not in shown[seen:]:
                assert read(), f"{expected!r} never showed:\n{shown}"
            seen = len(shown)
            os.write(terminal, answer.encode())
        while read():
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
    return shown


SETTLED = [f"--data={name}={answer}" for name, answer in {
    "project_name": "My Shop", "project_slug": "my-shop", "description": "A shop.",
    "time_zone": "UTC",
    "broker_url": "redis://redis:6379/0", "result_backend": "django-db",
    "sentinel_master": "mymaster",
    "beat_scheduler": "database", "monitoring": "[]", "kubernetes": "no", "ci": "none",
}.items()]  # fmt: skip


def settled(*open_questions: str) -> list[str | Path]:
    """Answers to all questions but these."""
    return [a for a in SETTLED if a.removeprefix("--data=").partition("=")[0] not in open_questions]


def test_a_person_sees_why_a_choice_is_impossible(questionnaire: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    arguments = [*settled("broker_url", "beat_scheduler"), "--data=broker_url=sqs://"]
    shown = converse([*arguments, questionnaire, project], ("choose database or file", "\r"))
    assert "- RedBeat, in Redis (RedBeat needs a Redis broker: choose database or file.)" in shown
    assert recorded(project)["beat_scheduler"] == "database"


def test_a_person_is_asked_again_until_the_answer_can_work(
    questionnaire: Path, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    converse(
        [*settled("broker_url"), questionnaire, project],
        ("Where do tasks wait", "x\r"),  # at the end of the default
        ("The database of a Redis is", "\x7f\r"),  # the rest is cut off at 80 columns
    )
    assert recorded(project)["broker_url"] == "redis://redis:6379/0"


def test_a_person_with_a_name_without_latin_letters_is_asked_for_a_slug(
    questionnaire: Path, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    arguments = [*settled("project_name", "project_slug"), "--data=project_name=日本の店"]
    converse([*arguments, questionnaire, project], ("What do machines call it", "mise\r"))
    assert recorded(project)["project_slug"] == "mise"


# --- Real servers ---


def test_a_test_without_its_server_is_skipped_and_fails_where_servers_are_required(
    tmp_path: Path,
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n live: servers\n containers: too\n")
    (tmp_path / "test_live.py").write_text(
        "import conftest, pytest\n"
        "conftest.SERVERS['nowhere'] = 1\n"
        "@pytest.mark.live('nowhere')\n"
        "def test_live(): pass\n"
        "@pytest.mark.live('no-program')\n"
        "def test_program(): pass\n"
        "@pytest.mark.containers\n"
        "def test_containers(): pass\n"
        "@pytest.mark.skip('of old')\n"
        "def test_other(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "conftest", "-p", "no:cacheprovider"]
    command += ["-p", "no:django", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "PYTEST_ADDOPTS": ""}
    environment["DOCKER_HOST"] = f"unix://{tmp_path}/nothing.sock"
    runs = [
        subprocess.Popen(
            [*command, *extra],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for extra in ([], ["--require-live"])
    ]
    skipped, required = (run.communicate(timeout=60)[0] for run in runs)
    absent = ("nowhere on port 1", "the program no-program", "a container engine")
    for each in absent:
        assert f"not here: {each}" in skipped
        assert f"--require-live: Skipped: not here: {each}" in required
    assert "4 skipped" in skipped
    assert "1 skipped, 3 errors" in required
    assert [run.returncode for run in runs] == [0, 1]


def test_the_template_is_copied_without_what_git_ignores(tmp_path: Path) -> None:
    for name in (".gitignore", "kept/new.txt", "old.log", "kept/.gitignore", "kept/forced.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("*.log\n" if name == ".gitignore" else "forced.txt\n")
    copy_tree(tmp_path / "tree", tmp_path / "archive-copy")
    git(tmp_path / "tree", "init", "--quiet")
    git(tmp_path / "tree", "add", "--force", "kept/forced.txt")
    copy_tree(tmp_path / "tree", tmp_path / "checkout-copy")
    kept = {".gitignore", "kept/.gitignore", "kept/new.txt"}
    for name, files_kept in (("archive", kept), ("checkout", kept | {"kept/forced.txt"})):
        copied = tmp_path / f"{name}-copy"
        assert set(git(copied, "ls-files").split()) == files_kept
        assert git(copied, "status", "--porcelain") == ""
        assert git(copied, "describe", "--tags").strip() == "v0.0.1"
