from django.apps import AppConfig


class TasksConfig(AppConfig):
    """The tasks of the project, with their schedules in `schedules.py`.

    Do not register schedules in `ready()`. It runs in every process, and before `migrate` creates
    the tables.
    """

    name = "apps.tasks"
