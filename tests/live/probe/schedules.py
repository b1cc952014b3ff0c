"""A schedule as a user declares it."""

import os
from datetime import timedelta

from apps.pipeline.schedules import Schedule

SCHEDULES = [
    Schedule(
        name="Probe",
        task="apps.probe.tasks.echo",
        when=timedelta(seconds=1),
        args=[os.environ.get("PROBE_WORD", "tick")],
    )
]
