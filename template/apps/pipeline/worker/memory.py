"""Keeps memory that the processes of a worker share."""

import gc
from typing import Any


def freeze(**kwargs: Any) -> None:
    """Exclude the objects of the main process from garbage collection, before it is forked.

    The garbage collector writes to each object that it examines. In a process of the pool, this
    copies memory that the process shares with the main process. In a test, a worker with two
    processes used 111 MiB, and 141 MiB without this.
    """
    gc.collect()
    gc.freeze()
