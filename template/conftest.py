"""Fixtures for every test of the project."""

pytest_plugins = ["apps.pipeline.testing"]
