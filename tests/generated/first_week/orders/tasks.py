from celery import shared_task

from apps.orders.services import confirm_order


@shared_task(autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
def confirm_order_task(order_id: int) -> None:
    confirm_order(order_id=order_id)
