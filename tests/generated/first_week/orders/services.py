from django.db import transaction

from apps.orders.models import Order


def place_order(*, email: str) -> Order:
    from apps.orders.tasks import confirm_order_task

    with transaction.atomic():
        order = Order.objects.create(email=email)
        confirm_order_task.delay_on_commit(order.pk)
    return order


def confirm_order(*, order_id: int) -> None:
    Order.objects.filter(pk=order_id).update(confirmed=True)
