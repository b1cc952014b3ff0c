from apps.mathematics.tasks import (
    add, chained, count, fetch, later, process_rows, report, sum_of_sums, unreliable
)


def test_add():
    assert add(2, 2) == 4


def test_fetch(celery_app):
    assert fetch.delay("http://localhost").get() == "http://localhost"


def test_count(celery_app):
    assert count.delay().get() == 1


def test_retries(celery_app):
    assert unreliable.delay().get() == 2


def test_class_based(celery_app):
    assert process_rows([1, 2])


def test_canvas(live_worker):
    assert sum_of_sums().get(timeout=60) == 6
    assert report().get(timeout=60) == 6
    assert chained().get(timeout=60) == 18
    assert process_rows.delay([1, 2]).get(timeout=60)


def test_later(live_app):
    assert later() == "PENDING"
