"""Yours: what this project adds to the template's settings, or changes in them.

`local`, `test` and `production` start from here. Updates of the template never touch this file, and
lines of their own keep what you add apart from what the template changes.
"""

from config.settings.base import *  # noqa: F403
from config.settings.base import INSTALLED_APPS

# Your apps, and those that you install. Their tasks.py and schedules.py are found by themselves.
INSTALLED_APPS += ["apps.tasks", "apps.users"]
AUTH_USER_MODEL = "users.User"

# MIDDLEWARE += ["…"]

# Queues of their own, and which tasks wait in them. Every worker takes from all of these and from
# "celery", where everything else waits, unless its command names some; docs/scaling.md says more.
# As in [Queue("mail")], of kombu, and {"apps.shop.tasks.*": {"queue": "mail"}}.
# CELERY_TASK_QUEUES = []
# CELERY_TASK_ROUTES = {}

# The landing page's button runs this task with a sentence.
LANDING_TASK = "apps.tasks.tasks.example_task"
