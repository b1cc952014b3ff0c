"""Real servers of the tests' own: on free ports, with data of their own, ended with the tests.

What the fault tests of a generated project start for themselves stands in the template, and serves
here too. The URLs hold what makes URLs hard: users, passwords and virtual hosts to be quoted.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pymysql
import redis
import trustme
from conftest import program
from rendering import ROOT

sys.path.append(str(ROOT / "template"))  # last, so that only its packages are found there

from apps.pipeline.embedded import free_port as free_port
from apps.pipeline.embedded import leashed as leashed
from tests.faults.servers import PostgreSQL as Cluster
from tests.faults.servers import RabbitMQ as Node
from tests.faults.servers import Server
from tests.faults.servers import wait_until as wait_until

USER, PASSWORD, VIRTUAL_HOST = "shop", "p@ss/w:rd", "shop/eu"
CREDENTIALS = f"{USER}:{quote(PASSWORD, safe='')}"


def binary(name: str) -> str:
    """The path of a program that `@pytest.mark.live` has found to be there."""
    path = program(name)
    assert path
    return path


class Certificates:
    """A certificate authority that nobody else trusts, and what it issues to localhost.

    The servers listen at 127.0.0.2 too, which is not named in it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.authority = directory / "ca.pem"
        self.key, self.chain = directory / "server.key", directory / "server.pem"
        issuer = trustme.CA()
        issuer.cert_pem.write_to_path(str(self.authority))
        issued = issuer.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.key))
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(self.chain), append=True)


class Redis(Server):
    """A Redis for a user with a password, by TCP, by TLS and by a UNIX socket."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(directory)
        self.tls_port = free_port()
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


class Sentinels:
    """A master with a replica, and three Sentinels that watch them."""

    MASTER = "mymaster"

    def __init__(self, directory: Path) -> None:
        self.redises = [_Watched(directory / name) for name in ("one", "two")]
        master, replica = self.redises
        replica.follow(master)
        self.sentinels = [_Sentinel(directory / f"sentinel-{n}", master) for n in range(3)]
        self.url = ";".join(
            f"sentinel://:{quote(PASSWORD, safe='')}@127.0.0.1:{sentinel.port}/0"
            for sentinel in self.sentinels
        )

    def __enter__(self) -> "Sentinels":
        try:
            for server in (*self.redises, *self.sentinels):
                server.start()
            wait_until(self._are_complete, 60, "a replica in step and Sentinels that know it")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for server in (*self.sentinels, *self.redises):
            server.__exit__(None, None, None)

    def master(self) -> "_Watched":
        """The server that the Sentinels call the master now."""
        port = self._state()["port"]
        return next(server for server in self.redises if server.port == port)

    def _state(self) -> dict[str, Any]:
        """What a Sentinel knows of the master."""
        with redis.Redis(port=self.sentinels[0].port) as client:
            state: dict[str, Any] = client.sentinel_master(self.MASTER)
        return state

    def _are_complete(self) -> bool:
        state = self._state()
        with redis.Redis(port=self.redises[1].port, password=PASSWORD) as replica:
            link: str = replica.info("replication")["master_link_status"]
        counts = (state["num-slaves"], state["num-other-sentinels"])
        return link == "up" and counts == (1, 2)


class _Watched(Server):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/0"
        self.configuration = directory / "redis.conf"
        self.configuration.write_text(
            f"""
            bind 127.0.0.1
            port {self.port}
            requirepass "{PASSWORD}"
            masterauth "{PASSWORD}"
            dir {directory}
            save ""
            appendonly yes
            repl-diskless-sync-delay 0
            """
        )

    def follow(self, master: Server) -> None:
        with self.configuration.open("a") as configuration:
            configuration.write(f"replicaof 127.0.0.1 {master.port}\n")

    def command(self) -> Sequence[str]:
        return [binary("redis-server"), str(self.configuration)]


class _Sentinel(Server):
    def __init__(self, directory: Path, master: Server) -> None:
        super().__init__(directory)
        self.configuration = directory / "sentinel.conf"
        self.configuration.write_text(
            f"""
            bind 127.0.0.1
            port {self.port}
            dir {directory}
            sentinel monitor {Sentinels.MASTER} 127.0.0.1 {master.port} 2
            sentinel auth-pass {Sentinels.MASTER} "{PASSWORD}"
            sentinel down-after-milliseconds {Sentinels.MASTER} 2000
            sentinel failover-timeout {Sentinels.MASTER} 10000
            """
        )

    def command(self) -> Sequence[str]:
        return [binary("redis-server"), str(self.configuration), "--sentinel"]


class RabbitMQ(Node):
    """A RabbitMQ for a user with a password and a virtual host of its own, by TCP and by TLS."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(directory)
        self.certificates = certificates
        self.tls_port = free_port()
        place = f"{CREDENTIALS}@localhost:{{}}/{quote(VIRTUAL_HOST, safe='')}"
        self.url = f"amqp://{place.format(self.port)}"
        self.tls_url = f"amqps://{place.format(self.tls_port)}"

    def variables(self) -> dict[str, str]:
        variables = super().variables()
        with Path(variables["RABBITMQ_CONFIG_FILE"]).open("a") as configuration:
            configuration.write(
                f"default_user = {USER}\n"
                f"default_pass = {PASSWORD}\n"
                f"default_vhost = {VIRTUAL_HOST}\n"
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"listeners.ssl.2 = 127.0.0.2:{self.tls_port}\n"
                f"ssl_options.cacertfile = {self.certificates.authority}\n"
                f"ssl_options.certfile = {self.certificates.chain}\n"
                f"ssl_options.keyfile = {self.certificates.key}\n"
            )
        return variables


class Simulator(Server):
    """What stands in for Amazon's SQS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = "sqs://"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def start(self) -> None:
        """Ask it once: before its first answer it reads for more than a second what SQS is."""
        super().start()
        names = self.client_variables()
        boto3.client(
            "sqs",
            endpoint_url=names["AWS_ENDPOINT_URL_SQS"],
            region_name=names["AWS_DEFAULT_REGION"],
            aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
        ).list_queues()

    def client_variables(self) -> dict[str, str]:
        """What SQS's clients read, in place of a machine's role."""
        return {
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "n/othing",
        }


class PostgreSQL(Cluster):
    """A PostgreSQL whose databases are made as they are asked for."""

    def database(self, name: str) -> str:
        """Make a database, and give its URL."""
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "app"]
        subprocess.run([str(self.binaries / "createdb"), *listen, name], check=True)
        return f"postgres://app@127.0.0.1:{self.port}/{name}"


class MariaDB(Server):
    """A MariaDB whose databases are made as they are asked for."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.options = ["--no-defaults", f"--datadir={directory / 'data'}"]
        if os.geteuid() == 0:
            self.options.append("--user=root")
        subprocess.run(
            [
                binary("mariadb-install-db"),
                *self.options,
                "--auth-root-authentication-method=normal",
            ],
            capture_output=True,
            check=True,
        )

    def command(self) -> Sequence[str]:
        listen = ["--bind-address=127.0.0.1", f"--port={self.port}"]
        sockets = [f"--socket={self.directory / 'sock'}", f"--pid-file={self.directory / 'pid'}"]
        return [binary("mariadbd"), *self.options, *listen, *sockets]

    def database(self, name: str) -> str:
        """Make a database with a user of its own, and give its URL."""
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as link:
            cursor = link.cursor()
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            cursor.execute(f"CREATE USER {name}@localhost IDENTIFIED BY %s", [PASSWORD])
            cursor.execute(f"GRANT ALL ON {name}.* TO {name}@localhost")
        return f"mysql://{name}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"
