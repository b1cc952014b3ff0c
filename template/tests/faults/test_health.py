"""What lives and does not work: the containers' health check says so, and what hangs ends itself.

These tests come last, and look at what was broken when the first test began.
"""

import pytest

from tests.faults.harness import Row
from tests.faults.servers import wait_until
from tests.faults.ward import ENDED_WITHIN, NOTICED_WITHIN, Patient, Ward


def noticed(ward: Ward, name: str, row: Row) -> Patient:
    """The process of that name, which the health check noticed in time."""
    patient = ward[name]
    if isinstance(patient, str):
        pytest.skip(patient)
    wait_until(lambda: patient.noticed is not None, NOTICED_WITHIN + 5, "unhealthy")
    assert patient.noticed is not None
    row.recovered(patient.noticed)
    assert patient.noticed < NOTICED_WITHIN
    return patient


def ended(patient: Patient, row: Row) -> None:
    wait_until(lambda: patient.ended is not None, ENDED_WITHIN, "it ended itself")
    row.injected += f", ended itself after {patient.ended or 0:.0f} s"


@pytest.mark.faults("a frozen worker (SIGSTOP)")
def test_a_frozen_worker_is_unhealthy(ward: Ward, row: Row) -> None:
    row.injected = "SIGSTOP"
    noticed(ward, "a frozen worker", row)


@pytest.mark.faults("a worker whose event loop hangs")
def test_a_hung_worker_is_unhealthy_and_ends_itself(ward: Ward, row: Row) -> None:
    row.injected = "its loop sleeps"
    ended(noticed(ward, "a hung worker", row), row)


@pytest.mark.faults("a consumer that is dead in a live process")
def test_a_deaf_worker_is_unhealthy_and_ends_itself(ward: Ward, row: Row) -> None:
    row.injected, row.accepted, row.done = "it takes no message", 5, 0
    patient = noticed(ward, "a deaf worker", row)
    ended(patient, row)
    patient.system.wait_done({str(number): "" for number in range(5)})
    row.done = len(patient.system.traced("done"))


@pytest.mark.faults("a frozen Beat (SIGSTOP)")
def test_a_frozen_beat_is_unhealthy(ward: Ward, row: Row) -> None:
    row.injected = "SIGSTOP"
    noticed(ward, "a frozen Beat", row)


@pytest.mark.faults("a Beat that cannot reach its database")
def test_a_beat_without_its_database_is_unhealthy(ward: Ward, row: Row) -> None:
    row.injected = "the database ends"
    noticed(ward, "a Beat without its database", row)
