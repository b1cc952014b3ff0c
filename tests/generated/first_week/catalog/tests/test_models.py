import pytest

from apps.catalog.models import Product


@pytest.fixture
def product(db):
    return Product.objects.create(name="Pen", price=2)


def test_cheap(product):
    assert list(Product.objects.get_queryset().cheap()) == [product]
