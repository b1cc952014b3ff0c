"""Which view answers which address."""

from django.conf import settings
from django.contrib import admin
from django.urls import path

from apps.pipeline import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]
if settings.DEBUG:
    urlpatterns.append(path("", views.landing, name="landing"))
