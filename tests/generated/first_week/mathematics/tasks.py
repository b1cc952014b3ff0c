import logging
import random

from celery import Task, chord, group, shared_task
from celery.result import AsyncResult
from celery.schedules import crontab

from config.celery import app

logger = logging.getLogger(__name__)


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task(bind=True, max_retries=3)
def fetch(self, url):
    try:
        if random.random() < 0:
            raise OSError(url)
    except OSError as exc:
        raise self.retry(exc=exc, countdown=2**self.request.retries)
    return url


class Counting(Task):
    calls = 0

    def on_success(self, retval, task_id, args, kwargs):
        logger.info("Done: %s", task_id)


@shared_task(base=Counting, bind=True)
def count(self):
    self.calls += 1
    return self.calls


@shared_task(bind=True)
def debug(self):
    print("Request: {0!r}".format(self.request))


def sum_of_sums():
    return chord(group(add.s(i, i) for i in range(3)))(total.s())


class DatabaseTask(Task):
    _db = None

    @property
    def db(self):
        if self._db is None:
            self._db = {"connected": True}
        return self._db

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        print("{0!r} failed: {1!r}".format(task_id, exc))


@shared_task(base=DatabaseTask, bind=True)
def process_rows(self, rows):
    for number, _ in enumerate(rows):
        if not self.request.called_directly:
            self.update_state(state="PROGRESS", meta={"done": number, "total": len(rows)})
    return self.db["connected"]


@shared_task(bind=True, autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 2})
def unreliable(self):
    if self.request.retries < 2:
        raise ConnectionError("again")
    return self.request.retries


@shared_task
def error_handler(request, exc, traceback):
    print("Task {0} raised exception: {1!r}".format(request.id, exc))


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    print(f"Request: {self.request!r}")


def later():
    add.apply_async((2, 2), countdown=10, link_error=error_handler.s())
    add.apply_async(args=[2, 2], link=add.s(16), expires=60)
    return AsyncResult("an-id").state


def chained():
    return (add.s(4, 4) | add.s(8) | add.s(2))()


def report():
    return chord([add.s(i, i) for i in range(3)], total.s())()


@app.on_after_finalize.connect
def setup_periodic_tasks(sender, **kwargs):
    sender.add_periodic_task(30.0, add.s(16, 16), name="add every 30")
    sender.add_periodic_task(crontab(hour=7, minute=30, day_of_week=1), add.s(1, 1))
