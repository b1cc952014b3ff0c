"""The next release, with a task that the workers of this release do not know."""
