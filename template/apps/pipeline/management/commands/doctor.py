import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from apps.pipeline.status.parts import Part
from apps.pipeline.status.report import all_parts

MARKS = {True: "✓", False: "✗", None: "-"}


class Command(BaseCommand):
    help = "Check each part, from configuration to schedules, and say what to do if one fails."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        parts = []
        for part in all_parts():
            parts.append(part)
            if not options["json"]:
                self._show(part)
        ok = all(part.ok is not False for part in parts)
        if options["json"]:
            report = {"ok": ok, "parts": [asdict(part) | {"to_do": part.to_do} for part in parts]}
            self.stdout.write(json.dumps(report, indent=2))
        if not ok:
            raise SystemExit(1)

    def _show(self, part: Part) -> None:
        styles: dict[Any, Any] = {True: self.style.SUCCESS, False: self.style.ERROR, None: str}
        self.stdout.write(f"{styles[part.ok](MARKS[part.ok])} {part.name}: {part.words}")
        if part.to_do:
            self.stdout.write(f"  → {part.to_do}")
