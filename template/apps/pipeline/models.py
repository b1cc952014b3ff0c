"""The permission for the page's button, as a model without a table."""

from django.db import models


class Page(models.Model):  # noqa: DJ008 - there are no objects
    class Meta:
        managed = False
        default_permissions = ()
        permissions = (("run_task", "Can send the task of the pipeline's page"),)
