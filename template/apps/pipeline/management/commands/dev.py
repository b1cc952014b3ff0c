import fcntl
import multiprocessing
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from dotenv import dotenv_values
from honcho.environ import parse_procfile
from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer

from apps.pipeline.embedded import free_port, leashed, server


class Command(BaseCommand):
    help = "Run web, worker and Beat in this terminal, with a broker of their own."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # A closed terminal ends this as Ctrl-C does, and so does the end of what started it.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
        try:
            with _runtime_directory(settings.BASE_DIR / "var") as directory:
                self._run(settings.BASE_DIR, directory)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            pass  # Ctrl-C before everything was up

    def _run(self, base: Path, directory: Path) -> None:
        port = self._port()
        self.stdout.write("Bringing the database up to date ...")
        call_command("migrate", verbosity=0)
        with self._broker(base, directory) as variables:
            variables |= {"RUNTIME_DIR": str(directory)}
            with _advertised(directory / "dev.env", variables):
                self.stdout.write(self.style.SUCCESS(f"The page: http://127.0.0.1:{port}/"))
                processes = parse_procfile((base / "Procfile").read_text()).processes
                _run_all(processes, variables | {"PORT": str(port), "PYTHONUNBUFFERED": "1"})

    def _port(self) -> int:
        """The web's port: `PORT` if it is set and free, else 8000 or the next that is."""
        if wanted := os.environ.get("PORT"):
            if not wanted.isdigit() or free_port(int(wanted)) != int(wanted):
                raise CommandError(f"PORT={wanted} cannot be used: set it to a port that is free.")
            return int(wanted)
        port = free_port(8000)
        if port != 8000:
            self.stdout.write(self.style.WARNING(f"Port 8000 is taken: using {port}."))
        return port

    @contextmanager
    def _broker(self, base: Path, directory: Path) -> Iterator[dict[str, str]]:
        """The broker that you set, or an embedded one; as variables for the processes."""
        set_by_you = dotenv_values(base / ".env") | os.environ
        if set_by_you.get("CELERY_BROKER_URL") or set_by_you.get("CELERY_BROKER_URL_FILE"):
            yield {}
            return
        with server(directory / "broker") as url:
            variables = {"CELERY_BROKER_URL": url}
            # Results on the database or nowhere stay so; others come to the embedded server.
            if settings.CELERY_RESULT_BACKEND not in ("django-db", "disabled://"):
                variables["CELERY_RESULT_BACKEND"] = "redis"
            yield variables


@contextmanager
def _runtime_directory(var: Path) -> Iterator[Path]:
    """`var` itself for the first `just dev` of a project; for one beside it, a directory in it."""
    var.mkdir(exist_ok=True)
    with (var / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(dir=var, prefix="dev-") as beside:
                yield Path(beside)
        else:
            yield var


@contextmanager
def _advertised(file: Path, variables: dict[str, str]) -> Iterator[None]:
    """Let `manage.py` in other terminals find what runs here: settings read `var/dev.env`."""
    file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _run_all(processes: dict[str, str], variables: dict[str, str]) -> None:
    """Run the Procfile until a signal or the end of one process ends them all."""
    manager = Manager(Printer(_Terminal()))
    for name, command in processes.items():
        words = leashed(["sh", "-c", f"exec {command}"])
        manager.add_process(name, f"exec {shlex.join(words)}", env=os.environ | variables)
    try:
        manager.loop()
    finally:
        for child in multiprocessing.active_children():
            child.kill()  # honcho's own; what they started ends by its leash
    if manager.returncode not in {known["rc"] for known in SIGNALS.values()}:
        raise CommandError("A process ended by itself: its last lines above say why.")


class _Terminal:
    """Standard output that may go away: then everything ends, and nobody is left to read more."""

    _gone = False

    def write(self, text: str) -> None:
        with self._or_end():
            sys.stdout.write(text)

    def flush(self) -> None:
        with self._or_end():
            sys.stdout.flush()

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    @contextmanager
    def _or_end(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self._gone:  # once: what handles the signal writes here too
                self._gone = True
                os.kill(os.getpid(), signal.SIGTERM)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
