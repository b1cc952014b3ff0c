from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils.timezone import localtime
from kombu.exceptions import OperationalError

LISTED = 50


class Command(BaseCommand):
    help = "List the failed tasks, or run them again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--run-again", nargs="+", metavar="ID", help="run these tasks again; `all` means all"
        )
        parser.add_argument(
            "--collect", action="store_true", help="first store the messages of unknown-tasks"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not apps.is_installed("apps.pipeline.failed"):
            raise CommandError("FAILED_TASK_DAYS is 0, so failed tasks are not kept.")
        try:
            if options["collect"]:
                self._collect()
            if options["run_again"]:
                self._run_again(options["run_again"])
            else:
                self._list()
        except DatabaseError as error:
            raise CommandError(f"{error} Start the database, or run migrate first.") from error

    def _collect(self) -> None:
        from apps.pipeline.failed.collect import collect

        try:
            self.stdout.write(f"Stored {collect(current_app)} messages of the queue unknown-tasks.")
        except OperationalError as error:
            raise CommandError(f"The broker does not answer: {error}") from error

    def _list(self) -> None:
        from apps.pipeline.failed.models import FailedTask

        waiting = FailedTask.objects.filter(run_again_as="")
        for failed in waiting[:LISTED]:
            error, when = failed.error.partition("\n")[0], localtime(failed.failed_at)
            self.stdout.write(f"{when:%Y-%m-%d %H:%M} {failed}: {failed.reason}, {error}")
        count = waiting.count()
        tasks = "task has" if count == 1 else "tasks have"
        self.stdout.write(f"{count} failed {tasks} not been run again.")

    def _run_again(self, wanted: list[str]) -> None:
        from apps.pipeline.failed.again import run_again
        from apps.pipeline.failed.models import FailedTask

        wants_all = "all" in wanted
        selected = {"run_again_as": ""} if wants_all else {"task_id__in": wanted}
        rows = FailedTask.objects.filter(**selected).order_by("failed_at")
        missing = set(wanted) - {row.task_id for row in rows}
        if missing and not wants_all:
            raise CommandError(f"No failed task has the id {', '.join(sorted(missing))}.")
        errors = []
        for failed in rows:
            try:
                self.stdout.write(f"Sent {failed} again, as {run_again(failed)}.")
            except (OperationalError, ValueError) as error:
                errors.append(f"{failed}: {error}")
        if errors:
            raise CommandError("\n".join(errors))
