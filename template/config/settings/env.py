"""Where settings come from. For each name, the first of these that has it wins:

1. the environment of the process
2. `.env`, which is yours and never committed
3. `var/dev.env`, which `just dev` writes while it runs, so that other terminals find its broker
4. `defaults.env` beside this file, the answers given to the template

`NAME_FILE` may stand for `NAME` and names a file that holds the value, as container secrets do.
"""

import sys
from pathlib import Path

from dj_database_url import DBConfig
from environs import EnvError, FileAwareEnv

BASE_DIR = Path(__file__).resolve().parents[2]

env = FileAwareEnv(strip_whitespace=True)
env.read_env(BASE_DIR / ".env", recurse=False)
env.read_env(BASE_DIR / "var" / "dev.env", recurse=False)
env.read_env(Path(__file__).with_name("defaults.env"), recurse=False)


def database(name: str, default: str = "") -> DBConfig:
    """The database that a URL means. Ends in words where it means none, too early for a check."""
    try:
        config: DBConfig = env.dj_db_url(name, default)
    except EnvError as error:
        sys.exit(f"{error} Write postgres://name:password@host:5432/name, for example.")
    return config
