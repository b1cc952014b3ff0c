"""A Redis with a replica, and the Sentinels that watch them."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from redis import Redis

from apps.pipeline.broker import embedded
from tests.faults.servers import START_TIMEOUT, Valkey, wait_until


class Watched(Valkey):
    """The master, or the replica of a master. With a password, clients have to know it."""

    def __init__(
        self, directory: Path, program: str, password: str, master: Valkey | None = None
    ) -> None:
        super().__init__(directory)
        self.program, self.options = program, ["--repl-diskless-sync-delay", "0"]
        if password:
            self.url = self.url.replace("//", f"//:{quote(password, safe='')}@")
            self.options += ["--requirepass", password, "--masterauth", password]
        if master:
            self.options += ["--replicaof", "127.0.0.1", str(master.port)]

    def command(self) -> Sequence[str]:
        return [self.program, *super().command()[1:], *self.options]


class Sentinel(Valkey):
    def __init__(self, directory: Path, program: str, password: str, master: Valkey) -> None:
        super().__init__(directory)
        self.program = program
        self.configuration = directory / "sentinel.conf"
        self.configuration.write_text(
            f"""
            bind 127.0.0.1
            port {self.port}
            dir {directory}
            sentinel monitor mymaster 127.0.0.1 {master.port} 2
            {f"sentinel auth-pass mymaster {password}" if password else ""}
            sentinel down-after-milliseconds mymaster 2000
            sentinel failover-timeout mymaster 10000
            """
        )

    def command(self) -> Sequence[str]:
        return [self.program, str(self.configuration), "--sentinel"]


class Sentinels(Valkey):
    """Three Sentinels, and the two servers that they watch; `url` names the Sentinels."""

    def __init__(self, directory: Path, program: str = "", password: str = "") -> None:
        super().__init__(directory)
        program = program or str(embedded._binary())
        self.first = Watched(directory / "one", program, password)
        self.second = Watched(directory / "two", program, password, self.first)
        self.sentinels = [
            Sentinel(directory / f"sentinel-{number}", program, password, self.first)
            for number in range(3)
        ]
        self.servers = [self.first, self.second, *self.sentinels]
        user = f":{quote(password, safe='')}@" if password else ""
        self.url = ";".join(f"sentinel://{user}127.0.0.1:{one.port}/0" for one in self.sentinels)

    def __enter__(self) -> Self:
        with ExitStack() as servers:
            for server in self.servers:
                servers.enter_context(server)
            wait_until(self._is_complete, START_TIMEOUT, "Sentinels that know each other")
            self._stack = servers.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def fail_over(self) -> None:
        """Kill the master, and wait until the other one is."""
        self.first.end(signal.SIGKILL)
        wait_until(self._has_changed, START_TIMEOUT, "another master")

    def _states(self) -> list[dict[str, Any]]:
        """What each Sentinel knows of the master."""
        states = []
        for sentinel in self.sentinels:
            with Redis.from_url(sentinel.url) as client:
                states.append(client.sentinel_master("mymaster"))
        return states

    def _is_complete(self) -> bool:
        known = [(state["num-slaves"], state["num-other-sentinels"]) for state in self._states()]
        with Redis.from_url(self.second.url) as replica:
            status = replica.info("replication").get("master_link_status")
        return known == [(1, 2)] * 3 and status == "up"

    def _has_changed(self) -> bool:
        masters = [(state["port"], state["is_odown"]) for state in self._states()]
        return masters == [(self.second.port, False)] * 3
