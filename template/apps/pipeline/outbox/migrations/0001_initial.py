import django.utils.timezone
from django.db import migrations, models

import apps.pipeline.outbox.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Message",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("task_id", models.CharField(max_length=255)),
                ("name", models.CharField(max_length=255)),
                ("key", models.CharField(blank=True, default="", max_length=255)),
                ("record", models.TextField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("due_at", models.DateTimeField(default=apps.pipeline.outbox.models.after_own_time)),
                ("last_error", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name": "waiting task",
                "indexes": [models.Index(fields=["key", "id"], name="pipeline_outbox_key")],
            },
        ),
    ]
