from django.apps import AppConfig


class TracesConfig(AppConfig):
    name = "apps.pipeline.traces"
    label = "pipeline_traces"

    def ready(self) -> None:
        from apps.pipeline.traces.spans import install

        install()
