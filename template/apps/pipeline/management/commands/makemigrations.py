"""Django's makemigrations, which also replaces the first migration of a new app.

`just app` creates an app with an example model and its migration, so that its tests pass at once.
Users then change the model. If the migration is not applied and git does not have it, this command
deletes it, and Django writes it again.
"""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.commands import makemigrations
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import Error

from apps.pipeline.management.commands.startapp import TEMPLATE

EXAMPLE = (TEMPLATE / "migrations" / "0001_initial.py-tpl").read_bytes()
OTHER_MODES = ("check_changes", "dry_run", "empty", "merge", "update")


class Command(makemigrations.Command):
    def handle(self, *labels: str, **options: Any) -> None:
        writes = not any(options[name] for name in OTHER_MODES)
        replaced = list(replaceable_migrations(labels)) if writes else []
        for file in replaced:
            file.unlink()
        try:
            super().handle(*labels, **options)
        except BaseException:  # for example, the user stops at a question
            for file in replaced:
                file.write_bytes(EXAMPLE)
            raise


def replaceable_migrations(labels: tuple[str, ...]) -> Iterator[Path]:
    """The unchanged migrations of `just app` that are not applied, needed, or in git."""
    with suppress(Error, OSError):  # if the database or git does not answer, replace nothing
        applied = MigrationRecorder(connection).applied_migrations()
        needed = needed_by_others()
        for config in apps.get_app_configs():
            files = list(Path(config.path, "migrations").glob("[!_]*.py"))
            if len(files) != 1 or files[0].read_bytes() != EXAMPLE:
                continue
            is_asked_for = not labels or config.label in labels
            if not is_asked_for or (config.label, files[0].stem) in {*applied, *needed}:
                continue
            command = ["git", "ls-files", "--error-unmatch", str(files[0])]
            known = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, check=False)
            if known.returncode == 1:  # git does not have the file; 128: there is no repository
                yield files[0]


def needed_by_others() -> set[tuple[str, str]]:
    """The migrations on which a migration of another app depends."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    migrations = loader.disk_migrations.items()
    return {key for (app, _), one in migrations for key in one.dependencies if key[0] != app}
