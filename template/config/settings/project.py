"""Your settings, which add to the template's settings or change them.

`local`, `test` and `production` import this module. Updates of the template do not change it.
"""

from config.settings.base import *  # noqa: F403
from config.settings.base import INSTALLED_APPS

# Your apps and the apps that you install. Celery finds their tasks.py, and Beat their schedules.py.
INSTALLED_APPS += ["apps.tasks", "apps.users"]
AUTH_USER_MODEL = "users.User"

# MIDDLEWARE += ["…"]

# More queues, and the tasks that are sent to them. All other tasks are sent to the queue "celery".
# A worker consumes all queues unless its command names some. See docs/scaling.md.
# For example [kombu.Queue("mail")] and {"apps.shop.tasks.*": {"queue": "mail"}}.
# CELERY_TASK_QUEUES = []
# CELERY_TASK_ROUTES = {}

# The task that the button of the status page sends. It has one argument, a string.
LANDING_TASK = "apps.tasks.tasks.example_task"
