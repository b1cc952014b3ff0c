"""URLs of the health checks and the page. `config/urls.py` includes them."""

from django.conf import settings
from django.urls import path

from apps.pipeline.status import page, views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    *([path("", page.landing, name="landing")] if settings.DEBUG else []),
]
