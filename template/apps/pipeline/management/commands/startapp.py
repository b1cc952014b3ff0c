"""`just app NAME`: an app in `apps/`, wired, with tests that pass."""

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
    help = "Make an app in apps/ with model, service, task, schedule and tests, and install it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(template=str(TEMPLATE))

    def handle(self, **options: Any) -> None:  # type: ignore[override] # as in Django's
        name = options.pop("name").removeprefix("apps.").removeprefix("apps/").rstrip("/")
        options.pop("directory")  # apps belong into apps/
        directory = settings.BASE_DIR / "apps" / name
        if problem := refusal(name, directory):
            raise CommandError(problem)
        file = settings.BASE_DIR / "config" / "settings" / "project.py"
        before = file.read_text(encoding="utf-8")
        try:
            after = installed(before, f"apps.{name}")
        except SyntaxError as error:
            words = f"{file.name} cannot be read: {error.msg} in line {error.lineno}."
            raise CommandError(f"{words} Correct it first; nothing was made.") from error
        directory.mkdir()
        try:
            super().handle(name=name, directory=str(directory), **options)
            file.write_text(after, encoding="utf-8")
            for rule in (["check", "--select=I", "--fix-only"], ["format"]):  # as long as its name
                command = [sys.executable, "-m", "ruff", *rule, "--quiet", directory, file]
                subprocess.run(command, check=False)
        except BaseException:
            shutil.rmtree(directory)
            file.write_text(before, encoding="utf-8")
            raise
        self.stdout.write(f"apps/{name} is made and stands in INSTALLED_APPS of {file.name}.")
        self.stdout.write("Change its model to yours, then: just manage makemigrations")

    def validate_name(self, name: str, name_or_dir: str = "name") -> None:
        """Nothing: `refusal` judged it. Django refuses each name that can be imported."""


def refusal(name: str, directory: Path) -> str | None:
    """Why there can be no app of that name, with what to write instead; None if there can."""
    better = re.sub(r"\W+|_+", "_", name.lower()).strip("_").lstrip("0123456789_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        words = f"Write {better}, for example: " if better else ""
        return f"{words}a name is made of small letters, digits and _, and {name!r} is not."
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"Write {name}_app, for example: {name!r} is a word of Python."
    if len(name) > 40:
        return f"Write a name of at most 40 letters: {name!r} has {len(name)}."
    if directory.exists():
        return f"Choose another name: apps/{name} exists."
    for config in apps.get_app_configs():
        if config.label == name:
            return f"Choose another name: {config.name} is installed under {name!r}."
    return None


def installed(source: str, app: str) -> str:
    """The settings file with the app added to its last list of INSTALLED_APPS.

    Raises SyntaxError where the source is not Python.
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
