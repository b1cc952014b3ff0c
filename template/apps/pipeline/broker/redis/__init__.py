"""Kombu's Redis transport, changed so that it takes a message and records it in one step.

Kombu takes a message with BRPOP and records it as unacknowledged with a second command. A worker
that is killed between the two commands loses the message. docs/reliability.md has measurements.
Messages and keys in Redis are the same as kombu's. So any Celery client can send tasks, and workers
with and without this transport can use the same broker.
"""
