"""Reads settings from the environment and from files. The first source that sets a variable wins:

1. the environment of the process
2. `.env`, your file, which Git ignores
3. `var/dev.env`, which `just dev` writes while it runs, so that other terminals use its broker
4. `defaults.env` beside this file: your answers to the template's questions

Set `NAME_FILE` instead of `NAME` to read a value from a file, for example a container secret. If
the environment has both, `NAME` is used.
"""

import os
import sys
from pathlib import Path
from typing import Any

from dj_database_url import DBConfig
from dotenv import dotenv_values
from environs import EnvError, FileAwareEnv

BASE_DIR = Path(__file__).resolve().parents[2]


class Env(FileAwareEnv):
    """A variable in the environment comes before a file that NAME_FILE names."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        return os.environ.get(env_key) or super()._get_value(env_key, default)


env = Env(strip_whitespace=True)
env.read_env(BASE_DIR / ".env", recurse=False)
env.read_env(BASE_DIR / "var" / "dev.env", recurse=False)
env.read_env(Path(__file__).with_name("defaults.env"), recurse=False)
# boto3, OpenTelemetry and OpenSSL read these variables only from the environment.
for name in dotenv_values(BASE_DIR / ".env"):
    if name.startswith(("AWS_", "OTEL_", "SSL_CERT_")) and (value := env.str(name, "")):
        os.environ.setdefault(name, value)


def database(name: str, default: str = "") -> DBConfig:
    """Parse a database URL. Exit with a message if it is wrong: system checks run later."""
    try:
        config: DBConfig = env.dj_db_url(name, default)
    except EnvError as error:
        sys.exit(f"{error} Write postgres://name:password@host:5432/name, for example.")
    config.pop("CONN_MAX_AGE", None)  # so that production knows whether `project` has set it
    return config


def names(variable: str) -> list[str]:
    """The names in a variable, which are separated by commas."""
    return [name.strip() for name in env.str(variable, "").split(",") if name.strip()]


def pairs(variable: str, example: str) -> dict[str, str]:
    """Names with a value for each, such as a=b,c=d. Exit with a message if one has no value."""
    found = {name: name.partition("=") for name in names(variable)}
    for name, (_, sign, value) in found.items():
        if not value:
            missing = "value" if sign else "'='"
            sys.exit(f"{variable}: {name!r} has no {missing}. Write {example}, for example.")
    return {name.strip(): value.strip() for name, _, value in found.values()}
