import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.pipeline import heartbeat, status
from apps.pipeline.embedded import free_port
from apps.pipeline.status import Part

ROLES = [("worker", status.worker), ("beat", status.beat)]


@pytest.fixture(autouse=True)
def directory(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNTIME_DIR = tmp_path
    return tmp_path


@pytest.mark.parametrize(("role", "part"), ROLES)
class TestProcess:
    def test_without_a_heartbeat_it_is_not_running(
        self, role: str, part: Callable[[], Part]
    ) -> None:
        assert part() == Part(role, False, "not running, or still starting")

    def test_with_a_fresh_one_it_is_alive(self, role: str, part: Callable[[], Part]) -> None:
        heartbeat.beat(role)
        assert part().ok
        assert part().words.endswith(" s ago")

    def test_with_a_stale_one_it_hangs(
        self, role: str, part: Callable[[], Part], directory: Path
    ) -> None:
        heartbeat.beat(role)
        [file] = directory.iterdir()
        os.utime(file, times=(time.time() - heartbeat.STALE_AFTER - 1,) * 2)
        assert not part().ok
        assert "it hangs, or it was killed" in part().words


def test_the_database_that_answers_is_named(db: None) -> None:
    assert status.database().ok


def test_the_broker_that_answers_is_named() -> None:
    assert status.broker() == Part("broker", True, "memory://localhost/ answers")


@pytest.mark.parametrize("scheme", ["amqp", "sentinel"])
def test_of_a_broker_with_several_hosts_no_password_is_shown(
    settings: Settings, scheme: str
) -> None:
    urls = [f"{scheme}://me:secret@127.0.0.1:{free_port()}/0" for _ in range(2)]
    settings.CELERY_BROKER_URL = ";".join(urls)
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | settings.SENTINEL
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = options
    part = status.broker()
    assert not part.ok
    assert part.words.startswith(f"{urls[0].replace('secret', '**')};{scheme}://me:**@")
    assert "does not answer" in part.words
    assert "secret" not in part.words
    assert "<" not in part.words
