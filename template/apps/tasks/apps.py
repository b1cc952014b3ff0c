from django.apps import AppConfig


class TasksConfig(AppConfig):
    """The schedules are in `schedules.py`, and `migrate` writes them to the database.

    Do not register schedules in `ready()`: it runs before `migrate` creates the tables, and again in
    every process.
    """

    name = "apps.tasks"
