"""Yours: which view answers which address."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    # healthz and readyz for probes and, with local settings, the landing page.
    path("", include("apps.pipeline.urls")),
]
