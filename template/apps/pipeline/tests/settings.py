"""Settings of `just dev` in a test: the page and its task, whatever the project has instead."""

from config.settings.local import *  # noqa: F403

LANDING_TASK = "apps.pipeline.tasks.echo"
ROOT_URLCONF = "apps.pipeline.tests.urls"
