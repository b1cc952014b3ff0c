"""Keeps a task in the database until the broker has it. TASK_OUTBOX turns it on."""
