from django.contrib import admin

from apps.catalog.models import Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin[Product]):
    list_display = ["name", "price"]
    actions = ["make_free"]

    @admin.action(description="Make free")
    def make_free(self, request, queryset):
        queryset.update(price=0)
