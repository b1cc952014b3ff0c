"""Real servers for tests, on free ports and with new data. They stop after the tests.

The module also uses the servers of the template's fault tests. The URLs contain users, passwords
and virtual hosts that have to be quoted.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import boto3
import pymysql
import trustme

from apps.pipeline.broker.embedded import end_with_parent as end_with_parent
from apps.pipeline.broker.embedded import free_port as free_port
from support.requirements import program
from tests.faults.servers import PostgreSQL as Cluster
from tests.faults.servers import RabbitMQ as Node
from tests.faults.servers import Server, reserved_port

USER, PASSWORD, VIRTUAL_HOST = "shop", "p@ss/w:rd", "shop/eu"
CREDENTIALS = f"{USER}:{quote(PASSWORD, safe='')}"


def binary(name: str) -> str:
    """The path of a program that `@pytest.mark.live` requires."""
    path = program(name)
    assert path
    return path


class Certificates:
    """A private certificate authority, and its certificate for localhost.

    The servers also listen on 127.0.0.2, which the certificate does not contain.
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


class RabbitMQ(Node):
    """A RabbitMQ with a user, a password and a virtual host, which listens with TCP and TLS."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(directory)
        self.certificates = certificates
        self.tls_port = reserved_port()
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


class RabbitMQWithShortConsumerTimeout(Node):
    """A RabbitMQ that takes a message back after a few seconds."""

    seconds = 5

    def variables(self) -> dict[str, str]:
        words = f"-rabbit consumer_timeout {self.seconds}000 -rabbit channel_tick_interval 1000"
        return super().variables() | {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": words}


class SQSServer(Server):
    """A server that implements SQS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = "sqs://"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def start(self) -> None:
        """Send a request, because the first one takes more than a second."""
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
        """The variables that SQS clients read."""
        return {
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "n/othing",
        }


class PostgreSQL(Cluster):
    """A PostgreSQL server, in which tests create databases."""

    def database(self, name: str) -> str:
        """Create a database, and return its URL."""
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "app"]
        subprocess.run([str(self.binaries / "createdb"), *listen, name], check=True)
        return f"postgres://app@127.0.0.1:{self.port}/{name}"


class MariaDB(Server):
    """A MariaDB server, in which tests create databases."""

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
        """Create a database with its own user, and return its URL."""
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as link:
            cursor = link.cursor()
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            cursor.execute(f"CREATE USER {name}@localhost IDENTIFIED BY %s", [PASSWORD])
            cursor.execute(f"GRANT ALL ON {name}.* TO {name}@localhost")
        return f"mysql://{name}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"
