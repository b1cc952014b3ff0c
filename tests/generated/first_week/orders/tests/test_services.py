from apps.orders.models import Order
from apps.orders.services import place_order


def test_an_order_is_confirmed(celery_app, db, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        order = place_order(email="ada@example.com")
    assert Order.objects.get(pk=order.pk).confirmed
