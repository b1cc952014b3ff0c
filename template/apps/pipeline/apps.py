from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class PipelineConfig(AppConfig):
    name = "apps.pipeline"

    def ready(self) -> None:
        from apps.pipeline import checks  # noqa: F401 - registers them

        if apps.is_installed("django_celery_beat"):
            from apps.pipeline.sync import after_migrate

            post_migrate.connect(after_migrate, sender=apps.get_app_config("django_celery_beat"))
