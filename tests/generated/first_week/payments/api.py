from django.http import HttpRequest
from untyped_package.parameters import File, Query

from apps.payments.services import totals


def list_totals(request: HttpRequest, prices: list[int] = Query([2, 3])) -> dict[str, int]:
    return totals(prices=prices, counts=[1, 2])


def upload(request: HttpRequest, file: bytes = File(...)) -> int:
    return len(file)
