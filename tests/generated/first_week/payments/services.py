from django.db import transaction


@transaction.atomic
def place(*, order_id: int) -> None:
    from apps.payments.tasks import pay_task, send_receipt, thank

    pay_task.delay_on_commit(order_id)
    pay_task.apply_async_on_commit((order_id,), countdown=60)
    send_receipt.delay_on_commit(order_id=order_id)
    thank.delay_on_commit(order_id)


def totals(*, prices: list[int], counts: list[int]) -> dict[str, int]:
    total = 0
    for price, count in zip(prices, counts):
        total += price * count
    doubled = []
    for price in prices:
        doubled.append(price * 2)
    return dict(total=total, doubled=sum(doubled))
