"""Lists what production lacks: variables and secrets of compose.production.yaml, and settings.

Exits with code 1 if something is missing or unsafe. `just deploy-check` runs it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PLACEHOLDERS = {
    "DJANGO_SECRET_KEY": "only-for-this-check-fifty-characters-and-then-some-more",
    "DATABASE_URL": "postgres://db/app",
}


def missing_variables(compose: str) -> list[str]:
    """The message of each ${NAME:?message} whose variable is not set."""
    lines = [line for line in compose.splitlines() if not line.startswith("#")]
    required = re.findall(r"(?<!\$)\$\{([A-Z_]+):\?([^}]*)\}", "\n".join(lines))
    return [message for name, message in sorted(set(required)) if not os.environ.get(name)]


def missing_secrets(compose: str) -> tuple[list[str], dict[str, str]]:
    """A message for each missing file, and a variable with the path of each existing file."""
    missing, found = [], {}
    directory = Path(os.environ.get("SECRETS_DIR") or "SECRETS_DIR")
    for name in re.findall(r"^ *file: \$\{SECRETS_DIR.*\}/(\S+)$", compose, re.MULTILINE):
        path = directory / name
        if not os.access(directory, os.X_OK) and directory.exists():
            missing.append(f"You cannot read {path}: run this as root, or as the user 1000.")
        elif not path.is_file() or path.stat().st_size == 0:
            described = re.search(rf"^# *{name}  *(.*)$", compose, re.MULTILINE)
            missing.append(f"Create the file {path}: {described[1] if described else ''}")
        else:
            found[f"{name.upper()}_FILE"] = str(path)
    return missing, found


def unsafe(files: Iterable[str]) -> Iterator[str]:
    """A message for each secret file that you cannot read, or that all users can read."""
    for path in files:
        if not os.access(path, os.R_OK):
            yield f"You cannot read {path}: run this as root, or as the user 1000."
        if Path(path).stat().st_mode & 0o004:
            yield f"All users of this machine can read {path}: run chmod 400 and chown 1000."


def main() -> int:
    compose = (PROJECT / "compose.production.yaml").read_text(encoding="utf-8")
    missing, files = missing_secrets(compose)
    missing = missing_variables(compose) + missing
    problems = [*missing, *unsafe(files.values())]
    print(*problems, sep="\n", end="\n" if problems else "", flush=True)
    # Check the settings, with placeholders for the variables that are already reported.
    readable = {name: path for name, path in files.items() if os.access(path, os.R_OK)}
    environment = os.environ | readable
    environment |= {
        name: value for name, value in PLACEHOLDERS.items() if f"{name}_FILE" not in environment
    }
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings.production"
    environment["DJANGO_ALLOWED_HOSTS"] = os.environ.get("DJANGO_ALLOWED_HOSTS") or "example.com"
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    code = subprocess.run(command, cwd=PROJECT, env=environment).returncode
    if missing:
        are = "setting is" if len(missing) == 1 else "settings are"
        print(f"{len(missing)} {are} missing.")
    return 1 if problems or code else 0


if __name__ == "__main__":
    sys.exit(main())
