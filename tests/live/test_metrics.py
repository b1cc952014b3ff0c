"""Prometheus reads worker and Beat of a project, and its alerts and its dashboard find data."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from support.matrix import Cell, Servers
from support.probe_project import Project, production
from support.rendering import ROOT
from support.requirements import program
from support.servers import end_with_parent
from support.stacks import free_port
from support.waiting import WAIT_TIMEOUT

MONITORING = ROOT / "template" / "monitoring"

FAILING = """
@shared_task
def fail() -> None:
    raise LookupError("this shop is closed")
"""
SCHEDULE = """
SCHEDULES += [Schedule(name="Often", task="apps.probe.tasks.fail", when=timedelta(seconds=2))]
"""
QUEUE = """
from kombu import Queue
CELERY_TASK_QUEUES = [Queue("reports")]
"""
SEND = """
from apps.probe.tasks import fail, nap
for _ in range(5): nap.delay(0)
fail.apply_async(queue="reports")
"""


class Watched(Project):
    monitoring: ClassVar[list[str]] = ["prometheus"]


@contextmanager
def prometheus(directory: Path, ports: dict[str, int]) -> Iterator[Callable[..., Any]]:
    """Run Prometheus with the files of `monitoring`. Yield a function that asks its API."""
    directory.mkdir()
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "5s", "evaluation_interval": "5s"}
    for job in configuration["scrape_configs"]:
        [found] = job.pop("dns_sd_configs")
        assert found["names"] == [job["job_name"]]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (directory / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text())
    port = free_port()
    command = [
        program("prometheus") or "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            end_with_parent(command), stdout=log, stderr=log, start_new_session=True
        )

    def ask(path: str, **arguments: str) -> Any:
        address = f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(arguments)}"
        with urlopen(address, timeout=30) as answer:
            return json.load(answer)["data"]

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(WAIT_TIMEOUT)


def expressions() -> Iterator[tuple[str, str]]:
    """The title and the expression of each series on the dashboard."""
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


def without_data(ask: Callable[..., Any]) -> list[str]:
    """The panels that show nothing yet. NaN is the quantile of no observations."""
    return [
        title
        for title, expression in expressions()
        if not any(one["value"][1] != "NaN" for one in ask("query", query=expression)["result"])
    ]


@pytest.mark.live("redis-server", "prometheus")
def test_every_panel_of_the_dashboard_shows_data(
    template: Path, tmp_path: Path, servers: Servers
) -> None:
    cell = Cell("redis", "redis", "database", "sqlite")
    project = Watched(
        template,
        tmp_path / "project",
        cell,
        **servers.variables(cell),
        **production(tmp_path),
        TASK_OUTBOX="on",
    )
    project.add("apps/probe/tasks.py", FAILING)
    project.add("apps/probe/schedules.py", SCHEDULE)
    project.add("config/settings/project.py", QUEUE)
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    ports = {"celery-worker": free_port(), "celery-beat": free_port()}
    worker = ("celery", "-A", "config", "worker", "-l", "info", "--queues", "celery")
    beat = ("celery", "-A", "config", "beat", "-l", "info")
    with (
        project.started(*worker, METRICS_PORT=str(ports["celery-worker"])),
        project.started(*beat, METRICS_PORT=str(ports["celery-beat"])),
        prometheus(tmp_path / "prometheus", ports) as ask,
    ):
        project.run("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
        deadline = time.monotonic() + WAIT_TIMEOUT
        quiet = ("CeleryBeatMissing", "CeleryPartDown", "CeleryWorkersMissing")
        expected = {"CeleryQueueNotConsumed": "pending"} | dict.fromkeys(quiet, "inactive")
        labels = {"queue": "celery", "task": "apps.probe.tasks.nap", "outcome": "succeeded"}
        chosen = ",".join(f'{name}="{label}"' for name, label in labels.items())
        rules: dict[str, Any] = {}
        counted: list[str] = []
        while not expected.items() <= rules.items() or counted != ["5"] or without_data(ask):
            assert time.monotonic() < deadline, (rules, counted, without_data(ask))
            time.sleep(1)
            try:
                [group] = ask("rules")["groups"]
            except OSError:  # it has not started yet
                continue
            assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
            rules = {rule["name"]: rule["state"] for rule in group["rules"]}
            found = ask("query", query=f"celery_tasks_total{{{chosen}}}")["result"]
            counted = [one["value"][1] for one in found]


BUCKETS = 'celery_beat_lateness_seconds_bucket{le="%s"}'
WAITS = 'celery_task_queue_wait_seconds_bucket{queue="mail",le="%s"}'
ALERTS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "CeleryWorkersMissing": (
        {"celery_beat_leads": "1x60"},
        {"celery_worker_processes": "2x60"},
        {},
    ),
    "CeleryBeatMissing": ({"celery_beat_leads": "0x60"}, {"celery_beat_leads": "1x60"}, {}),
    "CeleryBeatLate": (
        {BUCKETS % "30.0": "0x60", BUCKETS % "100.0": "0+1x60", BUCKETS % "+Inf": "0+1x60"},
        {BUCKETS % "1.0": "0+1x60", BUCKETS % "30.0": "0+1x60", BUCKETS % "+Inf": "0+1x60"},
        {},
    ),
    "CeleryPartDown": (
        {'celery_part_up{part="broker"}': "0x60"},
        {'celery_part_up{part="broker"}': "1x60"},
        {"part": "broker"},
    ),
    "CeleryQueueNotConsumed": (
        {
            'celery_queue_consumed{queue="mail"}': "0x60",
            'celery_queue_messages{queue="mail"}': "1x60",
        },
        {
            'celery_queue_consumed{queue="mail"}': "1x60",
            'celery_queue_messages{queue="mail"}': "1x60",
        },
        {"queue": "mail"},
    ),
    "CeleryQueueSlow": (
        {'celery_queue_oldest_timestamp_seconds{queue="mail"}': "0x60"},
        {'celery_queue_oldest_timestamp_seconds{queue="mail"}': "0+60x60"},
        {"queue": "mail"},
    ),
    "CeleryQueueWaitLong": (
        {WAITS % "300.0": "0x60", WAITS % "900.0": "0+1x60", WAITS % "+Inf": "0+1x60"},
        {WAITS % "30.0": "0+1x60", WAITS % "300.0": "0+1x60", WAITS % "+Inf": "0+1x60"},
        {"queue": "mail"},
    ),
    "CeleryTasksFail": (
        {
            'celery_tasks_total{task="pay",outcome="failed"}': "0+1x60",
            'celery_tasks_total{task="pay",outcome="succeeded"}': "0+8x60",
        },
        {
            'celery_tasks_total{task="pay",outcome="failed"}': "0+1x60",
            'celery_tasks_total{task="pay",outcome="succeeded"}': "0+10x60",
        },
        {"task": "pay"},
    ),
    "CeleryLeaseOld": (
        {'celery_worker_lease_age_seconds{instance="one"}': "25x60"},
        {'celery_worker_lease_age_seconds{instance="one"}': "5x60"},
        {"instance": "one"},
    ),
    "CelerySQSLeaseOld": (
        {'celery_worker_sqs_lease_age_seconds{instance="one"}': "90x60"},
        {'celery_worker_sqs_lease_age_seconds{instance="one"}': "35x60"},
        {"instance": "one"},
    ),
    "CeleryOutboxWaits": (
        {"celery_outbox_oldest_seconds": "90x60"},
        {"celery_outbox_oldest_seconds": "30x60"},
        {},
    ),
}
"""For each alert: metrics that raise it, by the minute, metrics that do not, and its labels."""


def promtool(directory: Path, *arguments: str) -> str:
    command = [program("promtool") or "promtool", *arguments]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.live("promtool")
def test_each_alert_is_raised_by_its_fault_alone(tmp_path: Path) -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [*ALERTS]
    (tmp_path / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text())
    cases = []
    for rule in rules:
        fault, health, labels = ALERTS[rule["alert"]]
        firing = {"alertname": rule["alert"], "alertstate": "firing", **rule["labels"], **labels}
        sample = ",".join(f'{name}="{label}"' for name, label in firing.items())
        expected = [{"labels": f"ALERTS{{{sample}}}", "value": 1}]
        query = f'ALERTS{{alertname="{rule["alert"]}"}}'
        for series, samples in ((fault, expected), (health, [])):
            cases.append(
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": name, "values": values} for name, values in series.items()
                    ],
                    "promql_expr_test": [
                        {"expr": query, "eval_time": "50m", "exp_samples": samples}
                    ],
                }
            )
    text = yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": cases})
    (tmp_path / "tests.yml").write_text(text)
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "tests.yml")


@pytest.mark.live("promtool")
def test_prometheus_accepts_the_configuration() -> None:
    assert "SUCCESS" in promtool(MONITORING, "check", "config", "prometheus.yml")
