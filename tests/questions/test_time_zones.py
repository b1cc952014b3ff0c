"""The time zone: a name of the IANA database."""

from importlib.resources import files
from typing import Any

import pytest

from support.questionnaire import ENVIRONMENT, refusal, refused


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
    ("zone", "proposed"),
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
        ("GMT+1", "Europe/Vienna"),
        ("gmt-10", "Europe/Vienna"),
        ("etc/gmt+1", "Etc/GMT+1"),
    ],
)
def test_the_refusal_of_a_time_zone_proposes_a_similar_one(zone: str, proposed: str) -> None:
    refused("time_zone", zone, f"{proposed}\n")
