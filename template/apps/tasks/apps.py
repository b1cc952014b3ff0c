from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Schedules are declared in `schedules.py` and reach the database after `migrate`.

    Not from `ready()`: it runs before there is a database, and again in every process.
    """

    name = "apps.tasks"
