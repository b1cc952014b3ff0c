from apps.payments.api import list_totals
from apps.payments.services import place


def test_totals(rf):
    assert list_totals(rf.get("/")) == dict(total=8, doubled=10)


def test_place(celery_app, db, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        place(order_id=1)
    for number, callback in zip(range(4), callbacks):
        print(number, callback)
    assert len(callbacks) == 4
