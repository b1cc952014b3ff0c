import logging
import random

from celery import Task, chord, group, shared_task

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
