"""Keeps failed tasks in the database for FAILED_TASK_DAYS, so that they can be run again."""
