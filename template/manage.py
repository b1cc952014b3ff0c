#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # `manage.py test` must not send tasks to the broker of `just dev`.
    settings = "test" if sys.argv[1:2] == ["test"] else "local"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", f"config.settings.{settings}")
    execute_from_command_line(sys.argv)
