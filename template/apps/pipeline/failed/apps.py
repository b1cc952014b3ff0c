from django.apps import AppConfig


class FailedConfig(AppConfig):
    name = "apps.pipeline.failed"
    label = "pipeline_failed"
    verbose_name = "Failed tasks"

    def ready(self) -> None:
        from apps.pipeline.failed import signals

        signals.connect()
