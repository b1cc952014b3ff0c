"""Schedules in Redis, for a Beat that no database stands behind."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import redis
from celery import Celery
from celery.schedules import solar
from django_celery_beat.tzcrontab import TzAwareCrontab
from redbeat import decoder, schedulers

from apps.pipeline.beat import Leader, TakenError, declared_entries
from apps.pipeline.beat.once import Once
from apps.pipeline.lock import LEASE, Lock


class RedisLock:
    """redbeat's own lock, so that a Beat of another version respects it; taken without waiting."""

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
            self._lock.local.token = None  # it was not held, or ends with its lease


class Encoder(decoder.RedBeatJSONEncoder):
    """What redbeat's own cannot write: the sun, a single moment, the zone of a crontab."""

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
        fields = {name: value for name, value in d.items() if name != "__type__"}
        match d.get("__type__"):
            case "crontab in a zone":
                return TzAwareCrontab(**fields | {"tz": ZoneInfo(fields["tz"])})
            case "solar":
                return solar(**fields)
            case "once":
                return Once(**fields)
        return super().dict_to_object(d)


class Entry(schedulers.RedBeatSchedulerEntry):
    """An entry that comes out of Redis as it went in."""

    def default_now(self) -> datetime:
        """In UTC: redbeat writes the wall clock, which shows the same hour twice each autumn."""
        return datetime.now(UTC)

    _default_now = default_now

    @staticmethod
    def decode_definition(definition: str) -> Any:
        return json.loads(definition, cls=Decoder)

    def save(self) -> "Entry":
        fields = ("name", "task", "args", "kwargs", "options", "schedule", "enabled")
        definition = {field: getattr(self, field) for field in fields}
        meta = {"last_run_at": self.last_run_at}
        schedule_key = schedulers.ensure_conf(self.app).schedule_key
        with schedulers.get_redis(self.app).pipeline() as pipe:
            pipe.hset(self.key, "definition", json.dumps(definition, cls=Encoder))
            pipe.hsetnx(self.key, "meta", json.dumps(meta, cls=Encoder))
            pipe.zadd(schedule_key, {self.key: self.score})
            pipe.execute()
        return self


class RedBeatScheduler(Leader, schedulers.RedBeatScheduler):
    """redbeat's scheduler, with the declared schedules as its static entries."""

    Entry = Entry
    away = (*Leader.away, redis.RedisError)

    def __init__(self, app: Celery, **kwargs: Any) -> None:
        # redbeat takes settings that have Django's prefix for the broker's, and half ignores them.
        for name in ("redbeat_redis_url", "redbeat_redis_options", "redbeat_key_prefix"):
            if (value := app.conf.get(name)) is not None:
                app.conf.update({name: value})
        super().__init__(app, **kwargs)
        self.lock_key = None  # with it, redbeat would wait for the lock before the first tick

    def new_lock(self) -> Lock:
        key = schedulers.ensure_conf(self.app).lock_key
        return RedisLock(schedulers.get_redis(self.app), key)

    def drop_declared(self) -> list[str]:
        """Remove what code declared from where it is remembered; say what, a line each."""
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

    def maybe_due(self, entry: Any, **kwargs: Any) -> Any:
        if not self._lock.hold():  # one tick sends all that is due, which may take its time
            raise TakenError
        return super().maybe_due(entry, **kwargs)

    def _forget(self) -> None:
        super()._forget()
        self.__dict__.pop("_maybe_due_kwargs", None)
