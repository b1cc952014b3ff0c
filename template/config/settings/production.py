"""Settings for production. What has no safe default must be set in the environment."""

import sys

from pythonjsonlogger.core import RESERVED_ATTRS

from config.settings.env import env
from config.settings.project import *  # noqa: F403
from config.settings.project import DATABASES, LOGGING, MIDDLEWARE

# Of what a check says, the ids that do not concern this deployment; docs/checks.md has them all.
SILENCED_SYSTEM_CHECKS: list[str] = env.list("SILENCED_SYSTEM_CHECKS", [])

SECRET_KEY = env.str("DJANGO_SECRET_KEY")
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS")
if "insecure" in SECRET_KEY or len(SECRET_KEY) < 32:
    sys.exit("DJANGO_SECRET_KEY is a default or short: set 50 random characters, kept secret.")
if not env.str("DATABASE_URL", ""):
    sys.exit("Production has no database: set DATABASE_URL, as in .env.example.")
DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}

# TLS ends at the proxy in front, which must set this header itself and never pass a client's on.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.bool("DJANGO_SECURE_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # probes speak plain HTTP
SECURE_HSTS_SECONDS = env.int("DJANGO_SECURE_HSTS_SECONDS", 60 * 60 * 24 * 30)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
CSRF_TRUSTED_ORIGINS: list[str] = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", [])

# The web process serves its own static files, named by their content and compressed.
MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# Logs: each a JSON object in a line, for whoever collects them. Celery adds the arguments and the
# results of tasks as `data`: they are the users', and stay out.
LOGGING["formatters"]["line"] |= {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "reserved_attrs": [*RESERVED_ATTRS, "data"],
}

# Errors of web, worker and Beat are reported where this names a project of Sentry's.
if dsn := env.str("SENTRY_DSN", ""):
    import sentry_sdk

    sentry_sdk.init(dsn=dsn)
