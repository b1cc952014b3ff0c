"""A worker in a process of its own runs tasks. The test writes this file into a project."""

import time
from pathlib import Path
from typing import Any

import pytest

from apps.pipeline.testing import running
from apps.users.deadly import die_once
from apps.users.tasks import cleanup_now


def finished(result: Any) -> Any:
    deadline = time.monotonic() + 120
    while not result.is_finished:
        assert time.monotonic() < deadline, result
        time.sleep(0.1)
        result.refresh()
    return result


@pytest.mark.usefixtures("live_app", "transactional_db")
def test_a_task_whose_process_is_killed_runs_again(broker_url: str, tmp_path: Path) -> None:
    with running("worker", "--concurrency=1", broker=broker_url, directory=tmp_path):
        assert finished(cleanup_now.enqueue()).return_value == 0
        result = finished(die_once.enqueue("done"))
    assert (result.return_value, result.attempts) == ("done, at attempt 2", 2)
