"""A bare Django project with Celery, as in the first steps of both."""

import subprocess
import sys
from pathlib import Path

SETTINGS = """
import os

INSTALLED_APPS += ["shop"]
CELERY_BROKER_URL = os.environ["BROKER"]
CELERY_RESULT_BACKEND = os.environ["RESULTS"]
if "DATABASE_URL" in os.environ:
    import dj_database_url

    DATABASES = {"default": dj_database_url.config()}
"""

APPLICATION = """
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""

PACKAGE = """
from .celery import app as celery_app

__all__ = ("celery_app",)
"""

TASKS = """
from celery import shared_task


@shared_task
def ping():
    return "pong"
"""


def start_project(directory: Path, python: str = sys.executable) -> None:
    directory.mkdir()
    command = [python, "-m", "django", "startproject", "shop", str(directory)]
    subprocess.run(command, check=True)
    package = directory / "shop"
    with (package / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    (package / "celery.py").write_text(APPLICATION)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "tasks.py").write_text(TASKS)
