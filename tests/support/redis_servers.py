"""Redis servers for tests: one with TCP, TLS and a socket, and a master with Sentinels."""

from collections.abc import Sequence
from pathlib import Path

import redis

from support.servers import CREDENTIALS, PASSWORD, USER, Certificates, binary
from tests.faults.sentinels import Sentinels
from tests.faults.servers import Server, reserved_port


class Redis(Server):
    """A Redis with a user and a password, which listens with TCP, TLS and on a Unix socket."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(directory)
        self.tls_port = reserved_port()
        self.socket = directory / "redis.sock"
        self.configuration = directory / "redis.conf"
        self.configuration.write_text(
            f"""
            bind 127.0.0.1 127.0.0.2
            port {self.port}
            tls-port {self.tls_port}
            tls-auth-clients no
            tls-ca-cert-file {certificates.authority}
            tls-cert-file {certificates.chain}
            tls-key-file {certificates.key}
            unixsocket {self.socket}
            dir {directory}
            save ""
            appendonly yes
            user default off
            user {USER} on ">{PASSWORD}" "~*" "&*" +@all
            """
        )
        self.url = f"redis://{CREDENTIALS}@127.0.0.1:{self.port}"
        self.tls_url = f"rediss://{CREDENTIALS}@localhost:{self.tls_port}"
        self.socket_url = f"redis+socket://{CREDENTIALS}@{self.socket}"

    def command(self) -> Sequence[str]:
        return [binary("redis-server"), str(self.configuration)]

    def version(self) -> str:
        with redis.Redis.from_url(self.url) as client:
            return f"Redis {client.info('server')['redis_version']}"


def sentinels(directory: Path) -> Sentinels:
    """A master with a replica and a password, and three Sentinels that monitor them."""
    return Sentinels(directory, binary("redis-server"), PASSWORD)
