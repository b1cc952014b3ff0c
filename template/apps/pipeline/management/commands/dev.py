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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from dotenv import dotenv_values
from honcho.compat import ProcessManager
from honcho.environ import parse_procfile
from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer

from apps.pipeline.broker.embedded import end_with_parent, free_port, passing_on_sigterm, server


class Command(BaseCommand):
    help = "Run web, worker, Beat and an embedded broker in this terminal."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # When the terminal closes or the parent process exits, stop as on Ctrl-C. honcho alone
        # would exit and leave its processes running. Seen in honcho 2.0.0 (honcho #32 was about
        # SIGTERM). Once fixed, delete the handler of SIGHUP and `_Terminal`.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
        changed = threading.Event()
        files = [settings.BASE_DIR / name for name in (".env", "Procfile")]
        threading.Thread(target=_watch, args=(files, changed), daemon=True).start()
        try:
            with _runtime_directory(settings.BASE_DIR / "var") as directory:
                self._run(settings.BASE_DIR, directory)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            changed.clear()
        finally:
            if changed.is_set():
                sys.stdout.flush()
                os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - itself

    def _run(self, base: Path, directory: Path) -> None:
        port = self._port()
        self.stdout.write("Applying migrations ...")
        call_command("migrate", verbosity=0)
        with self._broker(base, directory) as variables:
            variables |= {"RUNTIME_DIR": str(directory)}
            with _env_file(directory / "dev.env", variables):
                self.stdout.write(self.style.SUCCESS(f"Status page: http://127.0.0.1:{port}/"))
                processes = parse_procfile((base / "Procfile").read_text()).processes
                _run_all(processes, variables | {"PORT": str(port), "PYTHONUNBUFFERED": "1"})

    def _port(self) -> int:
        """The port of the web server: `PORT` if it is set, else 8000 or the next free port."""
        if wanted := os.environ.get("PORT"):
            port = int(wanted) if wanted.isdigit() else 0
            if not 0 < port < 2**16 or free_port(port) != port:
                raise CommandError(f"PORT={wanted} cannot be used: set it to a free port.")
            return port
        port = free_port(8000)
        if port != 8000:
            self.stdout.write(self.style.WARNING(f"Port 8000 is in use. The page uses {port}."))
        return port

    @contextmanager
    def _broker(self, base: Path, directory: Path) -> Iterator[dict[str, str]]:
        """Run an embedded broker, unless a broker is configured. Yield its variables."""
        configured = dotenv_values(base / ".env") | os.environ
        if configured.get("CELERY_BROKER_URL") or configured.get("CELERY_BROKER_URL_FILE"):
            yield {}
            return
        with server(directory / "broker") as url:
            variables = {"CELERY_BROKER_URL": url}
            # Results are stored in the embedded server, except results in the database.
            if settings.CELERY_RESULT_BACKEND not in ("django-db", "disabled://"):
                variables["CELERY_RESULT_BACKEND"] = "redis"
            yield variables


@contextmanager
def _runtime_directory(var: Path) -> Iterator[Path]:
    """The directory `var`, or a new directory in it if another `just dev` uses `var`."""
    var.mkdir(exist_ok=True)
    with (var / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(dir=var, prefix="dev-") as directory:
                yield Path(directory)
        else:
            yield var


@contextmanager
def _env_file(file: Path, variables: dict[str, str]) -> Iterator[None]:
    """Write the variables to a file. Settings in other terminals read `var/dev.env`."""
    file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _run_all(processes: dict[str, str], variables: dict[str, str]) -> None:
    """Run the processes of the Procfile. When one exits, or on a signal, stop all."""
    manager = Manager(_Terminal(sys.stdout))  # type: ignore[no-untyped-call]
    manager._procmgr = Processes()
    for name, command in processes.items():
        words = end_with_parent(["sh", "-c", passing_on_sigterm(command)])
        manager.add_process(name, f"exec {shlex.join(words)}", env=os.environ | variables)
    try:
        manager.loop()
    finally:
        for child in multiprocessing.active_children():
            child.kill()  # a process of honcho, whose command `end_with_parent` then ends
            child.join()
    if manager.returncode == SIGNALS[signal.SIGINT]["rc"]:
        raise KeyboardInterrupt
    if manager.returncode not in {known["rc"] for known in SIGNALS.values()}:
        raise CommandError("A process exited: see its last lines above.")


class Processes(ProcessManager):
    """Send SIGTERM to the command alone. It stops its own child processes.

    honcho sends it to the process group: pool processes of the worker exit, and the worker logs an
    error for each.
    """

    def terminate(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


class _Terminal(Printer):
    """Prints the output of the processes. If the terminal is closed, `just dev` stops."""

    _closed = False

    def write(self, message: Any) -> None:
        try:
            super().write(message)  # type: ignore[no-untyped-call]
        except OSError:
            if not self._closed:  # only once, because the signal handler writes here too
                self._closed = True
                os.kill(os.getpid(), signal.SIGTERM)


def _watch(files: list[Path], changed: threading.Event) -> None:
    """Stop all processes when a file changes, because they read it only when they start."""

    def contents() -> list[bytes]:
        return [file.read_bytes() if file.exists() else b"" for file in files]

    before = contents()
    while contents() == before:
        time.sleep(0.5)
    print(".env or Procfile has changed: restarting all processes ...", flush=True)  # noqa: T201
    changed.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
