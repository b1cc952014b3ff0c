"""The page and the admin, whatever URLs they have in the project, and the URLs of the project."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path
from django.utils.module_loading import import_string

from apps.pipeline.status import page

urlpatterns = [
    path("", login_not_required(page.landing)),
    path("staff/", include("apps.pipeline.status.urls")),
    path("admin/", admin.site.urls),
    *import_string("config.urls.urlpatterns"),  # its templates can name them
]
