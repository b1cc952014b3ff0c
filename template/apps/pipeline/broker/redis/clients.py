"""Mixins that keep the Redis client, which kombu creates too often and deletes too early."""

from contextlib import suppress
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError


class ChannelClientMixin:
    """Mixin for a channel: create its client only once.

    Kombu creates a new client, with a table of some 200 callbacks, for each command. Seen in kombu
    5.7.0 (not reported yet). Delete `_create_client` and `_client` once fixed.
    """

    connection: Any
    pool: Any
    _client: Any = None

    def _create_client(self: Any, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()  # type: ignore[misc]
            # A full Redis refuses transactions, in which kombu counts and deletes messages. Then no
            # worker could connect. Seen in kombu 5.7.0 (not reported yet). Delete this line and
            # `_queue_bind` once fixed.
            self._client.pipeline = partial(self._client.pipeline, transaction=False)
        return self._client

    def _queue_bind(self, *args: Any) -> None:
        with suppress(OutOfMemoryError):  # a program that later sends to the queue binds it too
            super()._queue_bind(*args)  # type: ignore[misc]

    def _connparams(self: Any, asynchronous: bool = False) -> Any:
        # Kombu raises AttributeError on a closed channel, which stops the worker. Seen in kombu
        # 5.7.0 (kombu #582). Delete these two lines once fixed.
        if self.connection is None:
            raise RedisConnectionError("The channel was closed with its connection.")
        params = super()._connparams(asynchronous)  # type: ignore[misc]
        # Redis sends push messages only with RESP3: see polling.py.
        return params | {"protocol": 3} if asynchronous else params


class TransportClientMixin:
    """Mixin for a transport: keep a reference to the client after a disconnect.

    Channels need the client to close. Kombu deletes it with a broken connection, and closing a
    channel raises AttributeError, which stops the worker. Seen in kombu 5.7.0 (kombu #582). Delete
    this class once fixed.
    """

    _client: Any = None

    @property
    def client(self) -> Any:
        return self._client

    @client.setter
    def client(self, client: Any) -> None:
        self._client = client or self._client
