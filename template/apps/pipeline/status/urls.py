"""The URL of the page for staff. `config/urls.py` can include it, for example below the admin."""

from django.urls import path

from apps.pipeline.status import page

urlpatterns = [path("", page.staff, name="pipeline")]
