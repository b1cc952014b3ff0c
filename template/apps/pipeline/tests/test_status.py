import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status import parts
from apps.pipeline.status.parts import Part

ROLES = [("worker", parts.worker), ("beat", parts.beat)]


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

    def test_with_a_recent_heartbeat_it_runs(self, role: str, part: Callable[[], Part]) -> None:
        heartbeat.write(role)
        assert part().ok
        assert part().words.endswith(" s ago")

    def test_with_an_old_heartbeat_it_hangs(
        self, role: str, part: Callable[[], Part], directory: Path
    ) -> None:
        heartbeat.write(role)
        [file] = directory.iterdir()
        os.utime(file, times=(time.time() - heartbeat.STALE_AFTER - 1,) * 2)
        assert not part().ok
        assert "it hangs, or it was killed" in part().words


def test_the_kind_of_database_is_shown(db: None) -> None:
    assert parts.database().ok


def test_the_url_of_the_broker_is_shown() -> None:
    assert parts.broker() == Part("broker", True, "memory://localhost/ answers")


@pytest.mark.parametrize("scheme", ["amqp", "sentinel"])
def test_the_passwords_of_several_hosts_are_not_shown(settings: Settings, scheme: str) -> None:
    urls = [f"{scheme}://me:secret@127.0.0.1:{free_port()}/0" for _ in range(2)]
    settings.CELERY_BROKER_URL = ";".join(urls)
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | settings.SENTINEL
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = options
    part = parts.broker()
    assert not part.ok
    assert part.words.startswith(f"{urls[0].replace('secret', '**')};{scheme}://me:**@")
    assert "does not answer" in part.words
    assert "secret" not in part.words
    assert "<" not in part.words
