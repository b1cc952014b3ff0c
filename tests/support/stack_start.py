"""Tests of new containers after `just up`, for every broker."""

import socket
from typing import ClassVar

import pytest

from support.stacks import Stack, docker, has_run
from support.waiting import wait_until

OURS = {"web", "celery-worker", "celery-beat"}


class StartTests:
    """A new project after `just up`."""

    servers: ClassVar[frozenset[str]]

    def test_every_service_becomes_healthy(self, stack: Stack) -> None:
        states = {each["Service"]: (each["State"], each["Health"]) for each in stack.processes()}
        assert states == {
            **dict.fromkeys(OURS | self.servers, ("running", "healthy")),
            "migrate": ("exited", ""),
        }

    def test_the_web_answers(self, stack: Stack) -> None:
        assert stack.open("/healthz") == (200, "ok")
        assert stack.open("/readyz")[0] == 200
        status, page = stack.open("/admin/login/")
        assert status == 200
        assert 'name="password"' in page

    def test_a_task_goes_from_the_page_to_the_worker_and_back(self, stack: Stack) -> None:
        def all_works() -> bool:
            page = stack.press_the_button()
            return "Processed: Hello from the page" in page and page.count(">alive<") == 6

        wait_until(all_works, "the task has run, and all six parts are alive")

    def test_nothing_but_the_web_answers_from_the_host_and_only_on_loopback(
        self, stack: Stack
    ) -> None:
        published = {
            (each["Service"], port["URL"], port["PublishedPort"])
            for each in stack.processes()
            for port in each["Publishers"] or []
            if port["PublishedPort"]
        }
        assert published == {("web", "127.0.0.1", stack.port)}
        gateway = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((gateway.strip(), stack.port), timeout=5)

    def test_a_container_of_another_network_reaches_neither_broker_nor_database(
        self, stack: Stack
    ) -> None:
        addresses = [
            (network["IPAddress"], port)
            for service, port in {"db": 5432, "redis": 6379, "rabbitmq": 5672}.items()
            if service in self.servers
            for network in stack.containers(service)[0]["NetworkSettings"]["Networks"].values()
        ]
        assert len(addresses) == len(self.servers)
        code = (
            "import socket\n"
            f"for address in {addresses}:\n"
            "    try: socket.create_connection(address, timeout=2)\n"
            "    except OSError: print('closed')\n"
        )
        network = f"--network={stack.name}_default"
        answers = docker("run", "--rm", network, "python:3.13-slim", "python", "-c", code)
        assert answers.split() == ["closed"] * len(addresses)

    def test_a_killed_worker_process_is_replaced(self, stack: Stack) -> None:
        def started() -> str:
            return str(stack.containers("celery-worker")[0]["State"]["StartedAt"])

        before = started()
        # The container can end before the shell does, which is then killed too (128 + 9).
        kill = ("sh", "-c", "kill -KILL -1 || true")
        stack.compose("exec", "-T", "celery-worker", *kill, codes=(0, 137))
        wait_until(lambda: started() != before, "the container was started again")
        stack.up()
        wait_until(lambda: has_run(stack.press_the_button()), "the page runs a task")
