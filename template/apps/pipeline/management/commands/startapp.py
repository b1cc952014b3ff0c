"""Creates an app in `apps/` and installs it: `just app NAME`."""

import ast
import keyword
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import startapp

TEMPLATE = Path(__file__).parents[2] / "app_template"


class Command(startapp.Command):
    help = "Create an app in apps/ with model, service, task, schedule and tests, and install it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(template=str(TEMPLATE))

    def handle(self, **options: Any) -> None:  # type: ignore[override] # as in Django's
        name = options.pop("name").removeprefix("apps.").removeprefix("apps/").rstrip("/")
        options.pop("directory")  # apps are always created in apps/
        directory = settings.BASE_DIR / "apps" / name
        if problem := refusal(name, directory):
            raise CommandError(problem)
        file = settings.BASE_DIR / "config" / "settings" / "project.py"
        before = file.read_text(encoding="utf-8")
        try:
            after = installed(before, f"apps.{name}")
        except SyntaxError as error:
            problem = f"{file.name} is not valid: {error.msg} in line {error.lineno}."
            raise CommandError(f"{problem} Correct it first. No app was created.") from error
        directory.mkdir()
        try:
            super().handle(name=name, directory=str(directory), **options)
            file.write_text(after, encoding="utf-8")
            # The order of imports and the line breaks depend on the name of the app.
            for rule in (["check", "--select=I", "--fix-only"], ["format"]):
                command = [sys.executable, "-m", "ruff", *rule, "--quiet", directory, file]
                subprocess.run(command, check=False)
        except BaseException:
            shutil.rmtree(directory)
            file.write_text(before, encoding="utf-8")
            raise
        self.stdout.write(f"Created apps/{name} and added it to INSTALLED_APPS in {file.name}.")
        self.stdout.write("Next: change its model, and run just manage makemigrations")

    def validate_name(self, name: str, name_or_dir: str = "name") -> None:
        """Do nothing: `refusal` checks the name. Django refuses names of importable modules."""


def refusal(name: str, directory: Path) -> str | None:
    """The reason why the name cannot be used, with another name to use; None if it can."""
    valid = re.sub(r"\W+|_+", "_", name.lower()).strip("_").lstrip("0123456789_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        example = f", for example {valid}" if valid else ""
        problem = f"{name!r} is not a valid name for an app."
        return f"{problem} Use lower-case letters, digits and _{example}."
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"Write {name}_app, for example: {name!r} is a Python keyword."
    if len(name) > 40:
        return f"Write a name of at most 40 characters: {name!r} has {len(name)}."
    if directory.exists():
        return f"Choose another name: apps/{name} exists."
    for config in apps.get_app_configs():
        if config.label == name:
            return f"Choose another name: {config.name} is installed under {name!r}."
    return None


def installed(source: str, app: str) -> str:
    """The source of the settings with the app added to the last list of INSTALLED_APPS.

    Raises SyntaxError if the source is not valid Python.
    """
    lists = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AugAssign)
        and isinstance(node.value, ast.List)
        and "INSTALLED_APPS" in ast.unparse(node).split("=")[0]
    ]
    if not lists:
        return f'{source.rstrip()}\n\nINSTALLED_APPS += ["{app}"]\n'
    end = lists[-1].elts[-1] if lists[-1].elts else None
    lines = source.splitlines(keepends=True)
    if end is None:
        line, column, text = lists[-1].lineno, lists[-1].col_offset + 1, f'"{app}"'
    else:
        line, column, text = end.end_lineno or 0, end.end_col_offset or 0, f', "{app}"'
    before = lines[line - 1].encode()  # columns are counted in bytes
    lines[line - 1] = (before[:column] + text.encode() + before[column:]).decode()
    return "".join(lines)
