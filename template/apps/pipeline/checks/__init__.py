"""System checks of the configuration. docs/checks.md explains each check with an example.

`manage.py check` and `manage.py doctor` run them, and worker and Beat run them before they start.
The checks do not use the database or the network.
"""
