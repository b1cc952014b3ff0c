from django.contrib import admin
from untyped_package.admin import StampedAdmin

from .models import Book


@admin.register(Book)
class BookAdmin(StampedAdmin):
    list_display = ["title"]
