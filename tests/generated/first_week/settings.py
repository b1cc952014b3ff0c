INSTALLED_APPS += ["rest_framework", "allauth", "allauth.account", "untyped_package"]

MIDDLEWARE += [
    "allauth.account.middleware.AccountMiddleware",
    "apps.press.middleware.TimingMiddleware",
    "apps.press.middleware.simple_middleware",
]

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_ADAPTER = "apps.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"signup": "apps.accounts.forms.LongSignupForm"}
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]

REST_FRAMEWORK = {
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 10,
}

CELERY_BEAT_SCHEDULE = {
    "add-every-30-seconds": {
        "task": "apps.mathematics.tasks.add",
        "schedule": 30.0,
        "args": (16, 16)
    },
}

TEMPLATES[0]["OPTIONS"]["context_processors"] += ["django.template.context_processors.i18n"]


def show_toolbar(request):
    return request.user.is_staff


DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": show_toolbar}

# django-celery-email reads it.
CELERY_EMAIL_TASK_CONFIG = {"queue": "celery"}
SILENCED_SYSTEM_CHECKS = ["pipeline.W005"]
