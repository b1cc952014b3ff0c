"""Asks a Redis server whether workers can use it, and whether a program receives broadcasts."""

from typing import Any

from redis.exceptions import ResponseError

MIN_VERSION = (6, 2)


def unsupported(connection: Any) -> str | None:
    """The reason why workers cannot use this broker, as a part of a sentence; None if they can.

    Raises the broker's connection errors.
    """
    if not getattr(connection.transport, "has_leases", False):
        return None
    try:
        info = connection.default_channel._create_client().info("server")
    except ResponseError:  # the Redis user has no permission for INFO
        return None
    if info.get("redis_mode") == "cluster":
        return (
            "is a Redis Cluster, in which one script cannot reach all queues: "
            "set CELERY_BROKER_URL to a Redis that is not a cluster, or to Sentinels."
        )
    version = str(info.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        return f"is Redis {version}: install Redis 6.2 or newer, or Valkey."
    return None


def has_subscribers(connection: Any) -> bool:
    """Whether a program, for example another worker, may receive broadcasts.

    Raises the broker's connection errors.
    """
    if not getattr(connection.transport, "has_leases", False):
        return True  # other brokers do not tell
    try:
        return bool(connection.default_channel._create_client().pubsub_numpat())
    except ResponseError:  # the Redis user has no permission for PUBSUB
        return True
