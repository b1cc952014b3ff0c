from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Counts the users"

    def add_arguments(self, parser):
        parser.add_argument("--at-least", type=int, default=0)

    def handle(self, *args, **options):
        count = get_user_model().objects.count()
        if count < options["at_least"]:
            raise CommandError("There are only %s" % count)
        self.stdout.write(self.style.SUCCESS("There are %s users" % count))
