"""A task whose first attempt kills its process. The test writes this file into a project."""

import os
import signal
from typing import Any

from django_tasks import task


@task(takes_context=True)
def die_once(context: Any, word: str) -> str:
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{word}, at attempt {context.attempt}"
