from celery import current_app
from django.apps import AppConfig
from django.conf import settings


class OutboxConfig(AppConfig):
    name = "apps.pipeline.outbox"
    label = "pipeline_outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        if settings.TASK_OUTBOX:
            from apps.pipeline.outbox.sender import install

            install(current_app)
