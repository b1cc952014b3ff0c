"""The Lua scripts in `lua/`, each of which Redis runs in one step.

The comment at the top of a script describes its keys and arguments. `lease.keys` gives the keys of
a worker: the set of all workers, its lease, and the set of the delivery tags that it holds. A full
Redis refuses a command that adds data, unless the script has written before. So in the scripts for
messages, the first command that writes adds no data.
"""

from pathlib import Path


def _read(name: str) -> str:
    """A script without its comments, which would be sent to Redis with each call."""
    lines = (Path(__file__).parent / "lua" / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("--"))


RENEW = _read("renew")
UPDATE_RECORDS = _read("update_records")
ENDED = _read("ended")
HELD = _read("held")
OVERDUE = _read("overdue")
TAKE = _read("take")
ACKNOWLEDGE = _read("acknowledge")
RETURN = _read("return")
STORE = _read("store")
