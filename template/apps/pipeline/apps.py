from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class PipelineConfig(AppConfig):
    name = "apps.pipeline"

    def ready(self) -> None:
        from apps.pipeline import django_tasks
        from apps.pipeline.checks import report  # noqa: F401 - registers the checks

        if django_tasks.entries() and django_tasks.is_available():
            from apps.pipeline.django_tasks import running  # noqa: F401 - registers its task

        if apps.is_installed("django_celery_beat"):
            from apps.pipeline.beat.sync import after_migrate

            post_migrate.connect(after_migrate, sender=apps.get_app_config("django_celery_beat"))
