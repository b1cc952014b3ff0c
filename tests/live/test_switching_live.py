"""Changes of broker and scheduler while tasks and schedules run. No accepted task is lost."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.projects import run
from support.rendering import render
from support.switching_project import SEND, Project, server
from support.waiting import WAIT_TIMEOUT, wait_until


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("redis", "database"), ("amqp", "file")),
        (("amqp", "file"), ("redis", "redbeat")),
        (("redis", "redbeat"), ("redis", "database")),
        (("redis", "database"), ("sqs", "file")),
        (("sqs", "file"), ("redis", "database")),
    ],
    ids=lambda broker: "-".join(broker),
)
@pytest.mark.live("rabbitmq-server")
def test_the_recipe_drain_runs_the_tasks_of_the_old_broker(
    template: Path, tmp_path: Path, old: tuple[str, str], new: tuple[str, str]
) -> None:
    with (
        server(old[0], tmp_path / "old") as old_url,
        server(new[0], tmp_path / "new") as new_url,
    ):
        answers = {"broker_url": old_url, "result_backend": "none", "beat_scheduler": old[1]}
        project = Project(render(template, tmp_path / "project", **answers))

        # A worker is killed while a task runs. Then tasks are sent while no worker runs.
        project.manage(
            "shell", "-c", "from apps.tasks.tasks import record_run; record_run.delay('held')"
        )
        with project.worker() as worker:
            project.wait_for("held")
            worker.terminate()
            worker.wait(WAIT_TIMEOUT)
        with project.beat():
            wait_until(lambda: "Sending due task Tick" in log(project, "beat"), "a tick")
        sent = time.time()
        project.manage("shell", "-c", SEND.replace("SECONDS", "20"))
        assert project.runs().keys() == {"held"}

        project.switch(broker_url=new_url, result_backend="none", beat_scheduler=new[1])
        where = [old_url] if old[1] == "redbeat" else []
        dropped = project.run("just", "drop-schedules", old[1], *where)
        assert "Schedule removed: " in dropped
        assert "Nothing to remove." in project.run("just", "drop-schedules", old[1], *where)

        # The new worker does not run the tasks in the old broker. The recipe runs them.
        with project.worker(), project.beat():
            project.wait_for_more("tick")
            project.wait_for_more("tick")
            assert "waits-0" not in project.runs()
        with project.started(
            "drain", "just", "drain", old_url, "none", "--queues", "celery,reports"
        ) as drain:
            project.wait_for("waits-0", "waits-1", "waits-2", "reports", "later")
            wait_until(lambda: len(project.runs()["held"]) == 2, "the held task again")
            os.killpg(drain.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
            drain.wait(WAIT_TIMEOUT)
        runs = project.runs()
        assert runs["later"][0] - sent > 15
        assert {name: len(runs[name]) for name in ("waits-0", "reports", "later")} == {
            "waits-0": 1,
            "reports": 1,
            "later": 1,
        }
        assert "daily" not in runs


def log(project: Project, process: str) -> str:
    with suppress(FileNotFoundError):
        return (project.directory / "var" / f"{process}.log").read_text(errors="replace")
    return ""


STALE = """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
last = timezone.now() - timedelta(days=3)
assert PeriodicTask.objects.filter(name="Daily").update(last_run_at=last) == 1
yearly = IntervalSchedule.objects.create(every=365, period="days")
PeriodicTask.objects.create(name="By hand", task="apps.tasks.tasks.record_run", interval=yearly)
"""


def test_schedules_survive_changes_of_scheduler_and_run_once(
    template: Path, tmp_path: Path
) -> None:
    with server("redis", tmp_path / "broker") as url:
        project = Project(render(template, tmp_path / "project", broker_url=url))

        with project.worker(), project.beat():
            project.wait_for("tick", "once")
        project.manage("shell", "-c", STALE)

        project.switch(beat_scheduler="redbeat")
        dropped = project.run("just", "drop-schedules", "database").splitlines()
        declared = ("Daily", "Delete old failed tasks", "Once", "Tick")
        assert dropped == [f"Schedule removed: {name}" for name in declared]
        with project.worker(), project.beat():
            project.wait_for_more("tick")

        # A later answer added RedBeat's code, so the change back deletes it.
        drop_redbeat = ("just", "drop-schedules", "redbeat")
        assert project.run(*drop_redbeat).splitlines() == dropped
        project.switch(beat_scheduler="file")
        refusal = run(project.directory, *drop_redbeat, codes=(1,))
        assert "-d beat_scheduler=redbeat" in refusal
        with project.worker(), project.beat():
            project.wait_for_more("tick")

        project.switch(beat_scheduler="database")
        assert "celerybeat-schedule" in project.run("just", "drop-schedules", "file")
        with project.worker(), project.beat():
            project.wait_for_more("tick")
            project.wait_for_more("tick")
        assert len(project.runs()["once"]) == 1
        assert "daily" not in project.runs()
