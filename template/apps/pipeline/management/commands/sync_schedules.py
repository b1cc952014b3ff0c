from argparse import ArgumentParser
from typing import Any

from celery.app import app_or_default
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from kombu.utils.imports import symbol_by_name

from apps.pipeline import status
from apps.pipeline.sync import sync


class Command(BaseCommand):
    help = "Write the schedules that code declares to the database, for Beat and the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would change")
        parser.add_argument(
            "--check", action="store_true", help="the same, and exit 1 if anything would"
        )
        parser.add_argument(
            "--drop", action="store_true", help="remove them, from a scheduler that Beat has left"
        )

    def handle(self, *args: Any, dry_run: bool, check: bool, drop: bool, **options: Any) -> None:
        if not drop and not apps.is_installed("django_celery_beat"):
            self.stdout.write("Nothing to do: this scheduler reads the code when it starts.")
            return
        try:
            changes = drop_from_the_scheduler_left() if drop else sync(dry_run=dry_run or check)
        except DatabaseError as error:
            raise CommandError(f"{error}: is the database up, and did migrate run?") from error
        for change in changes:
            self.stdout.write(f"Schedule {change}")
        if not changes:
            self.stdout.write("Nothing to remove." if drop else "Schedules are in sync.")
        if check and changes:
            raise CommandError("The schedules in the database differ from the code: run migrate.")


def drop_from_the_scheduler_left() -> list[str]:
    """Raise CommandError where a Beat still works with it."""
    app = app_or_default()
    if (leader := status.leader()) and leader.ok:
        raise CommandError("A Beat leads with this scheduler: stop it first, nothing is removed.")
    if apps.is_installed("django_celery_beat"):
        return sync(drop=True)
    scheduler = symbol_by_name(app.conf.beat_scheduler)(app, lazy=True)
    changes: list[str] = scheduler.drop_declared()
    return changes
