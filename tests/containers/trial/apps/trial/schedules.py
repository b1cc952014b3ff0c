from datetime import timedelta

from apps.pipeline.schedules import Schedule

SCHEDULES = [Schedule(name="Tick", task="apps.trial.tasks.tick", when=timedelta(seconds=1))]
