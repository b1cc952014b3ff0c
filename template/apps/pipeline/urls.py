"""The addresses that the machinery answers; `config/urls.py` includes them."""

from django.conf import settings
from django.urls import path

from apps.pipeline import views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    *([path("", views.landing, name="landing")] if settings.DEBUG else []),
]
