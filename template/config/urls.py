"""The URLs of the project. Updates of the template do not change this file."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    # The status page for staff and in production. See docs/page.md.
    # path("admin/pipeline/", include("apps.pipeline.status.urls")),
    path("admin/", admin.site.urls),
    # healthz and readyz for probes, and the status page with local settings.
    path("", include("apps.pipeline.urls")),
]
