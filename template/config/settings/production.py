"""Settings for production. Settings without a safe default have to be set in the environment."""

import sys
from importlib.util import find_spec

from config.settings import project
from config.settings.base import static_files
from config.settings.env import env
from config.settings.project import *  # noqa: F403
from config.settings.project import DATABASES, INSTALLED_APPS, LOGGING, MIDDLEWARE, STORAGES

# The ids of system checks to silence: those of project.py, and those that do not matter for this
# deployment. See docs/checks.md.
SILENCED_SYSTEM_CHECKS = [
    *getattr(project, "SILENCED_SYSTEM_CHECKS", ()),
    *env.list("SILENCED_SYSTEM_CHECKS", [], subcast=str.strip),
]

SECRET_KEY = env.str("DJANGO_SECRET_KEY")
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", subcast=str.strip)
if "insecure" in SECRET_KEY or len(SECRET_KEY) < 32:
    sys.exit("DJANGO_SECRET_KEY is a default or short: set 50 random characters.")
if not env.str("DATABASE_URL", ""):
    sys.exit("DATABASE_URL is not set: set it as in .env.example.")
default = DATABASES["default"]
default["CONN_HEALTH_CHECKS"] = True
timeouts = {"mysql": {"connect_timeout": 5}}  # a server that does not answer is an error soon
timeouts["postgresql"] = timeouts["mysql"] | {"tcp_user_timeout": 10_000}
engine = default["ENGINE"].rpartition(".")[2]
default["OPTIONS"] = options = timeouts.get(engine, {}) | default.get("OPTIONS", {})
if "pool" not in options:
    default.setdefault("CONN_MAX_AGE", 60)

# The reverse proxy terminates TLS. It has to set this header, and drop the header of a client.
# What `project` sets stays, if no variable sets it.
own = vars(project).get
SECURE_PROXY_SSL_HEADER = own("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"))
SECURE_SSL_REDIRECT = env.bool("DJANGO_SECURE_SSL_REDIRECT", own("SECURE_SSL_REDIRECT", True))
SECURE_HSTS_SECONDS = env.int("DJANGO_SECURE_HSTS_SECONDS", own("SECURE_HSTS_SECONDS", 2_592_000))
SECURE_HSTS_INCLUDE_SUBDOMAINS = own("SECURE_HSTS_INCLUDE_SUBDOMAINS", True)
SECURE_HSTS_PRELOAD = own("SECURE_HSTS_PRELOAD", True)
SESSION_COOKIE_SECURE = own("SESSION_COOKIE_SECURE", True)
CSRF_COOKIE_SECURE = own("CSRF_COOKIE_SECURE", True)
CSRF_TRUSTED_ORIGINS: list[str] = env.list(
    "DJANGO_CSRF_TRUSTED_ORIGINS", own("CSRF_TRUSTED_ORIGINS", []), subcast=str.strip
)

# The web process serves static files, compressed and with a hash in their names. WhiteNoise has to
# be right after the SecurityMiddleware.
AFTER_SECURITY = MIDDLEWARE.index("django.middleware.security.SecurityMiddleware") + 1
MIDDLEWARE.insert(AFTER_SECURITY, "whitenoise.middleware.WhiteNoiseMiddleware")
if STORAGES.get("staticfiles", static_files) == static_files:
    STORAGES["staticfiles"] = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}

# Logs: a JSON object in each line.
LOGGING["formatters"]["line"] |= {"()": "pythonjsonlogger.json.JsonFormatter"}

# Traces are sent if the answer to `monitoring` has `opentelemetry`, and the address of an
# OpenTelemetry collector is set. If the answer changes later, the code stays without its packages.
has_traces = find_spec("apps.pipeline.traces") and find_spec("opentelemetry")
if has_traces and env.str("OTEL_EXPORTER_OTLP_ENDPOINT", ""):
    INSTALLED_APPS.append("apps.pipeline.traces")

# Errors of web, worker and Beat are sent to Sentry if the answer to `monitoring` has `sentry`, and
# SENTRY_DSN is set. The name `sentry_sdk` keeps the last line as it was in earlier versions of the
# template. If it changed, an update would conflict with the lines that you add below it.
if (dsn := env.str("SENTRY_DSN", "")) and find_spec("sentry_sdk"):
    from config.settings import sentry as sentry_sdk

    sentry_sdk.init(dsn=dsn)
