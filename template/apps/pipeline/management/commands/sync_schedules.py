from argparse import ArgumentParser
from typing import Any

from celery.app import app_or_default
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from kombu.utils.imports import symbol_by_name

from apps.pipeline.status.parts import leader


class Command(BaseCommand):
    help = "Write the declared schedules to the database, for Beat and the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="show the changes only")
        parser.add_argument(
            "--check", action="store_true", help="show the changes only, and exit with 1 if any"
        )
        parser.add_argument(
            "--drop", action="store_true", help="remove them from a scheduler that is not in use"
        )

    def handle(self, *args: Any, dry_run: bool, check: bool, drop: bool, **options: Any) -> None:
        if not drop and not apps.is_installed("django_celery_beat"):
            self.stdout.write("Nothing to do: Beat reads the declared schedules when it starts.")
            return
        try:
            changes = write_or_drop(drop=drop, dry_run=dry_run or check)
        except DatabaseError as error:
            raise CommandError(f"{error} Start the database, or run migrate first.") from error
        for change in changes:
            self.stdout.write(f"Schedule {change}")
        if not changes:
            self.stdout.write("Nothing to remove." if drop else "Schedules are in sync.")
        if check and changes:
            raise CommandError("The schedules in the database differ from the code: run migrate.")


def write_or_drop(*, drop: bool, dry_run: bool) -> list[str]:
    """Write the declared schedules to the scheduler's store, or remove them.

    Raises CommandError if they are to be removed and a Beat still uses the store.
    """
    if drop and (part := leader()) and part.ok:
        raise CommandError("A Beat uses this scheduler. Stop it first. Nothing was removed.")
    if apps.is_installed("django_celery_beat"):
        from apps.pipeline.beat.sync import sync

        return sync(drop=drop, dry_run=dry_run)
    if dry_run:
        raise CommandError("This scheduler has no dry run of --drop. Nothing was removed.")
    app = app_or_default()
    scheduler = symbol_by_name(app.conf.beat_scheduler)(app, lazy=True)
    changes: list[str] = scheduler.drop_declared()
    return changes
