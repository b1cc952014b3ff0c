"""Signals that Celery does not have. Connect a handler to them as to Celery's own."""

from celery.utils.dispatch import Signal

# Sent in the main process of a worker when an attempt of a task has started or ended. The sender is
# the name of the event, for example "task-succeeded". `fields` has the values of Celery's event.
task_event = Signal(name="task_event", providing_args=["request", "fields"])

# Sent when Beat has sent the task of a schedule. `entry.last_run_at` is the time of the previous
# run.
entry_sent = Signal(name="entry_sent", providing_args=["entry"])
