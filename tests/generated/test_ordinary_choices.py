"""The tests of the template in a project that changes what projects usually change."""

import re
import sys
from pathlib import Path

from support.projects import SUITE_TIMEOUT, replace, run, write
from support.rendering import render

FILES = {
    "config/urls.py": """
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Willkommen")


urlpatterns = [
    path("", home, name="home"),
    *i18n_patterns(path("control/", admin.site.urls)),
    path("", include("apps.pipeline.urls")),
]
""",
    "apps/users/models.py": """
from typing import Any

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models


class UserManager(BaseUserManager["Account"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "Account":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str, **fields: Any) -> "Account":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class Account(AbstractUser):
    username = None
    email = models.EmailField(unique=True)
    birthday = models.DateField()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []

    objects = UserManager()


User = Account
""",
    "apps/users/admin.py": """
from django.contrib import admin

from apps.users.models import Account

admin.site.register(Account)
""",
    "templates/403.html": '<a href="{% url "home" %}">{{ shop }}</a>',
    "apps/bakery/__init__.py": "",
    "config/context.py": """
from django.http import HttpRequest


def shop(request: HttpRequest) -> dict[str, str]:
    return {"shop": request.shop}
""",
    "config/middleware.py": """
def shop(get_response):
    def middleware(request):
        request.shop = "Bäckerei"
        return get_response(request)

    return middleware
""",
}
SETTINGS = """
INSTALLED_APPS += ["apps.bakery"]
AUTH_USER_MODEL = "users.Account"
LANGUAGE_CODE = "de"
LOGIN_URL = "admin:login"
MIDDLEWARE += [
    "django.middleware.locale.LocaleMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "config.middleware.shop",
]
CELERY_BEAT_SCHEDULE = {
    "nightly": {"task": "apps.tasks.tasks.example_task", "schedule": 3600.0, "args": ["Hallo"]}
}
CELERY_SHOP_OPENS_AT = 8
DATABASES["reports"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "var/reports"}
LOGGING["loggers"] |= {
    name: {"handlers": ["console"], "level": "INFO", "propagate": False}
    for name in ("apps", "celery")
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:1/1",
    }
}
SILENCED_SYSTEM_CHECKS = ["pipeline.W005"]
STATIC_URL = "https://static.example.com/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
TEMPLATES[0]["OPTIONS"]["context_processors"].append("config.context.shop")
USE_THOUSAND_SEPARATOR = True
"""


def test_they_pass_with_other_urls_users_and_languages(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    write(project, FILES)
    with (project / "config/settings/project.py").open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    for name in ("users/tests/test_services.py", "tasks/tests/test_tasks.py"):  # the user's own
        replace(
            project / "apps" / name, '"date_joined": ', '"birthday": "2000-01-01", "date_joined": '
        )
    (project / "apps/users/migrations/0001_initial.py").unlink()
    run(project, "python", "manage.py", "makemigrations", "users")
    command = (sys.executable, "-m", "pytest", "-q", "-n", "4", "-p", "no:cacheprovider")
    report = run(project, *command, timeout=SUITE_TIMEOUT)
    assert re.search(r"\d+ passed", report)
    assert not re.search(r"failed|error", report.splitlines()[-1])
