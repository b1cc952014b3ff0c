from django.contrib import admin
from django.utils.html import format_html

from .models import Article, Credit, Tag


class CreditInline(admin.StackedInline):
    model = Credit
    extra = 1


def make_published(modeladmin, request, queryset):
    queryset.update(status="PB")


make_published.short_description = "Publish what is chosen"


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):
    list_display = ("title", "slug", "status", "length", "link")
    list_filter = ("status", "created_at")
    search_fields = ["title", "body"]
    prepopulated_fields = {"slug": ("title",)}
    date_hierarchy = "publish"
    ordering = ["status", "publish"]
    actions = [make_published]
    inlines = [CreditInline]
    fieldsets = [
        (None, {"fields": ["title", "slug", "body"]}),
        ("When", {"fields": ["publish", "status"], "classes": ["collapse"]}),
    ]

    @admin.display(description="Words", ordering="body")
    def length(self, obj):
        return obj.words

    def link(self, obj):
        return format_html('<a href="{}">Read</a>', obj.get_absolute_url())

    link.short_description = "Page"

    def get_queryset(self, request):
        return super().get_queryset(request).prefetch_related("tags")


admin.site.register([Tag])
admin.site.site_header = "The press"
