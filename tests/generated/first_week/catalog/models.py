from django.db import models


class ProductQuerySet(models.QuerySet["Product"]):
    def cheap(self) -> "ProductQuerySet":
        return self.filter(price__lt=10)


class ProductManager(models.Manager["Product"]):
    def get_queryset(self) -> ProductQuerySet:
        return ProductQuerySet(self.model, using=self._db)


class Product(models.Model):
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    objects = ProductManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
