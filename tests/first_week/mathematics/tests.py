from apps.mathematics.tasks import add, count, fetch, sum_of_sums


def test_add():
    assert add(2, 2) == 4


def test_fetch(celery_app):
    assert fetch.delay("http://localhost").get() == "http://localhost"


def test_count(celery_app):
    assert count.delay().get() == 1


def test_chord(live_worker):
    assert sum_of_sums().get(timeout=60) == 6
