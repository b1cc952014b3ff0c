from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from apps.pipeline.sync import sync


class Command(BaseCommand):
    help = "Write the schedules that code declares to the database, for Beat and the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would change")
        parser.add_argument(
            "--check", action="store_true", help="the same, and exit 1 if anything would"
        )

    def handle(self, *args: Any, dry_run: bool, check: bool, **options: Any) -> None:
        if not apps.is_installed("django_celery_beat"):
            self.stdout.write("Nothing to do: this scheduler reads the code when it starts.")
            return
        changes = sync(dry_run=dry_run or check)
        for change in changes or ["in sync"]:
            self.stdout.write(f"Schedule {change}" if changes else "Schedules are in sync.")
        if check and changes:
            raise CommandError("The schedules in the database differ from the code: run migrate.")
