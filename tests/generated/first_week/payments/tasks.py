from celery import Task, chunks, maybe_signature, shared_task, xmap
from config.celery import app


@shared_task(bind=True, autoretry_for=(OSError,), max_retries=3)
def pay_task(self: Task, order_id: int) -> None:
    self.update_state(state="PAID", meta={"order": order_id})


@app.task(bind=True)
def send_receipt(self: Task, order_id: int) -> int:
    return order_id


@app.task
def thank(order_id: int) -> int:
    return order_id


def thank_all(order_ids: list[int]) -> list[object]:
    return [xmap(thank, order_ids), chunks(thank, [(1,)], 10), maybe_signature(thank.s(1), app=app)]
