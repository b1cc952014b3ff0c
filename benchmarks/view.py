"""How long a view waits to send a task, against bare Celery in a bare Django project, in turn.

uv run benchmarks/view.py --rounds 5

A view sends a task alone, or in a transaction that saves a row. The project has its production
settings, with and without its outbox. All have the same Redis and the same PostgreSQL, which the
benchmark starts.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

import redis
from bare_django import start_project
from worker import spread, surroundings
from worker_sides import ROOT, Side, new_project, server

sys.path.insert(0, str(ROOT / "template"))

from tests.faults.servers import PostgreSQL

BARE = "bare Celery"
KINDS = {"send": "a task", "save and send": "a row and a task, in a transaction"}


def sides(root: Path, broker: str, results: str, database: str) -> dict[str, Side]:
    start_project(root / "django")
    variables = {
        "BROKER": broker,
        "RESULTS": results,
        "DATABASE_URL": database,
        "DJANGO_SETTINGS_MODULE": "shop.settings",
    }
    project = new_project(root, broker, results)
    project.variables["DATABASE_URL"] = database
    return {
        BARE: Side(root / "django", "shop", "shop.tasks", variables),
        "this project": project,
        "with the outbox": replace(project, variables=project.variables | {"TASK_OUTBOX": "on"}),
    }


def measure(side: Side, count: int) -> dict[str, float]:
    """Milliseconds, by the name of the row."""
    figures = {}
    for kind, times in side.client("view", count).items():
        cuts = quantiles(times, n=20)
        figures[f"{KINDS[kind]}, p50, ms"] = 1000 * cuts[9]
        figures[f"{KINDS[kind]}, p95, ms"] = 1000 * cuts[18]
    return figures


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """Medians of the rounds, with the least and the greatest; ratios are of the same round."""
    others = [name for name in rounds[0] if name != BARE]
    head = ["a view sends", *rounds[0], *(f"{name} / {BARE}" for name in others)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rounds[0][BARE]:
        times = {name: [figures[name][row] for figures in rounds] for name in rounds[0]}
        ratios = [
            [one / bare for one, bare in zip(times[name], times[BARE], strict=True)]
            for name in others
        ]
        columns = [*times.values(), *ratios]
        lines.append([row, *(spread(figures, "{:.2f}") for figures in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="of each kind, in each round")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="view-")))
        root.chmod(0o755)
        broker = stack.enter_context(server(root / "broker"))
        database = stack.enter_context(PostgreSQL(root / "database"))
        results = broker.removesuffix("0") + "1"
        all_sides = sides(root, broker, results, database.url)
        all_sides["with the outbox"].manage("migrate", "--verbosity", "0")
        client = stack.enter_context(redis.Redis.from_url(broker))
        rounds = []
        for turn in range(options.rounds):
            names = list(all_sides) if turn % 2 == 0 else list(reversed(all_sides))
            figures = {name: measure(all_sides[name], options.tasks) for name in names}
            rounds.append({name: figures[name] for name in all_sides})
            client.flushall()
        about = surroundings(client)
    print(f"{table(rounds)}\n\n{about}")


if __name__ == "__main__":
    main()
