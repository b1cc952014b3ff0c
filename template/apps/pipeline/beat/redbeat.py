"""The scheduler that stores schedules in Redis: redbeat."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import redis
from celery import Celery
from celery.schedules import solar
from django_celery_beat.tzcrontab import TzAwareCrontab
from redbeat import decoder, schedulers

from apps.pipeline.beat.leader import LeaderMixin, declared_entries
from apps.pipeline.beat.lock import LEASE, Lock
from apps.pipeline.beat.once import Once

BATCH = 500  # entries that are read in one round trip


def connection_settings(conf: Any) -> dict[str, Any]:
    """The Redis URL in redbeat's format, which differs from kombu's for sockets and Sentinels."""
    url = conf.get("redbeat_redis_url") or conf.broker_url
    url = url.replace("redis+socket:", "unix:", 1).replace("virtual_host=", "db=")
    options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5}
    if url.startswith("sentinel:"):
        sentinels = [urlsplit(address) for address in url.split(";")]
        url = "redis-sentinel://"
        options |= {
            "sentinels": [(address.hostname, address.port or 26379) for address in sentinels],
            "service_name": conf.broker_transport_options["master_name"],
            "sentinel_kwargs": conf.broker_transport_options["sentinel_kwargs"],
            "db": int(sentinels[-1].path.strip("/") or 0),
            "username": next((unquote(a.username) for a in sentinels if a.username), None),
            "password": next((unquote(a.password) for a in sentinels if a.password), None),
        }
    options |= conf.get("redbeat_redis_options") or {}
    return {"redbeat_redis_url": url, "redbeat_redis_options": options}


class RedisLock:
    """redbeat's own lock, which this class takes without waiting. Other Beats respect it too.

    redbeat waits for the lock before the first tick. Seen in celery-redbeat 2.4.2 (not reported
    yet). Keep this once fixed, because all schedulers use LeaderMixin.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._lock = client.lock(key, timeout=LEASE, thread_local=False)

    def hold(self) -> bool:
        if self._lock.local.token is not None:
            try:
                return bool(self._lock.reacquire())
            except redis.exceptions.LockError:
                self._lock.local.token = None
        return bool(self._lock.acquire(blocking=False))

    def release(self) -> None:
        try:
            self._lock.release()
        except redis.RedisError:
            self._lock.local.token = None  # the lock was not held, or it will expire


class Encoder(decoder.RedBeatJSONEncoder):
    """Also encodes solar schedules, schedules that run once, and crontabs with a time zone.

    redbeat loses the time zone, and cannot encode schedules that run once. Seen in celery-redbeat
    2.4.2 (redbeat #192, #222). Once fixed, delete this, Decoder, and the line that installs them.
    """

    def default(self, obj: object) -> Any:
        match obj:
            case TzAwareCrontab():
                return super().default(obj) | {"__type__": "crontab in a zone", "tz": str(obj.tz)}
            case solar():
                place = {"event": obj.event, "lat": obj.lat, "lon": obj.lon}
                return place | {"__type__": "solar"}
            case Once():
                return {"__type__": "once", "moment": obj.clocked_time}
        return super().default(obj)


class Decoder(decoder.RedBeatJSONDecoder):
    def dict_to_object(self, d: dict[str, Any]) -> Any:
        match d:
            case {"__type__": "crontab in a zone", "tz": zone, **fields}:
                return TzAwareCrontab(**fields | {"tz": ZoneInfo(zone)})
            case {"__type__": "solar", **fields}:
                return solar(**fields)
            case {"__type__": "once", **fields}:
                return Once(**fields)
        return super().dict_to_object(d)


vars(schedulers).update(RedBeatJSONEncoder=Encoder, RedBeatJSONDecoder=Decoder)


class Entry(schedulers.RedBeatSchedulerEntry):
    """A schedule in the store."""

    keep_lock: Any = staticmethod(lambda: None)

    def default_now(self) -> datetime:
        """The time in UTC. redbeat uses local time, in which one hour repeats each autumn.

        Seen in celery-redbeat 2.4.2 (not reported yet). Delete this and its alias once fixed.
        """
        return datetime.now(UTC)

    _default_now = default_now

    @classmethod
    def from_key(cls, key: str, app: Any = None) -> Any:
        cls.keep_lock()  # a tick reads each entry that is due, and all can be
        return super().from_key(key, app=app)


class RedBeatScheduler(LeaderMixin, schedulers.RedBeatScheduler):
    """redbeat's scheduler, with the declared schedules as its static entries."""

    Entry: Any = Entry
    outage_errors = (*LeaderMixin.outage_errors, redis.RedisError)

    def __init__(self, app: Celery, **kwargs: Any) -> None:
        # In some places redbeat reads only settings without the prefix CELERY_. Seen in
        # celery-redbeat 2.4.2 (not reported yet). Delete both updates once fixed.
        app.conf.update(connection_settings(app.conf))
        if prefix := app.conf.get("redbeat_key_prefix"):
            app.conf.update(redbeat_key_prefix=prefix)
        super().__init__(app, **kwargs)
        self.Entry = type("Entry", (Entry,), {"keep_lock": self._keep_lock})
        self.lock_key = None  # otherwise redbeat waits for the lock before the first tick

    def new_lock(self) -> Lock:
        key = schedulers.ensure_conf(self.app).lock_key
        return RedisLock(schedulers.get_redis(self.app), key)

    def stored(self) -> list[Any]:
        """All schedules in the store that are valid."""
        entries: list[Any] = []
        client = schedulers.get_redis(self.app)
        keys = client.zrange(schedulers.ensure_conf(self.app).schedule_key, 0, -1)
        for start in range(0, len(keys), BATCH):
            self._keep_lock()
            pipe = client.pipeline(transaction=False)
            for key in keys[start : start + BATCH]:
                pipe.hmget(key, "definition", "meta")
            for definition, meta in pipe.execute():
                with suppress(Exception):  # it was deleted, or is not valid
                    fields = Entry.decode_definition(definition) | Entry.decode_meta(meta)
                    entry = Entry(app=self.app, **fields)
                    entry.last_run_at = fields["last_run_at"]
                    entries.append(entry)
        return entries

    def drop_declared(self) -> list[str]:
        """Remove the declared schedules from the store. Return a line for each."""
        conf, client = schedulers.ensure_conf(self.app), schedulers.get_redis(self.app)
        names = sorted(client.smembers(conf.statics_key))
        for name in names:
            key = f"{conf.key_prefix}{name}"
            client.zrem(conf.schedule_key, key)
            client.delete(key)
        client.delete(conf.statics_key)
        return [f"removed: {name}" for name in names]

    def setup_schedule(self) -> None:
        self.app.conf.beat_schedule.update(declared_entries())
        super().setup_schedule()
        self.clock_was_set_back()  # perhaps, while no Beat ran

    def clock_was_set_back(self) -> None:
        self.correct_clock(self.stored())

    def correct_last_runs(self, entries: list[Any], now: datetime) -> None:
        for entry in entries:
            self._keep_lock()
            entry.reschedule(now)

    def maybe_due(self, entry: Any, **kwargs: Any) -> Any:
        # A tick sends all due tasks. During an outage it takes longer than the watchdog allows.
        if self._send_error:
            raise self._send_error
        self._keep_lock()
        return super().maybe_due(entry, **kwargs)

    def give_back(self, entry: Any) -> None:
        entry.reschedule(entry.last_run_at)

    def _discard_schedule(self) -> None:
        super()._discard_schedule()
        self.__dict__.pop("_maybe_due_kwargs", None)
