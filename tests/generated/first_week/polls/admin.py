from django.contrib import admin

from .models import Choice, Question


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 3


class QuestionAdmin(admin.ModelAdmin):
    list_display = ["text", "published", "is_recent"]
    list_filter = ["published"]
    search_fields = ["text"]
    fieldsets = [
        (None, {"fields": ["text"]}),
        ("Date", {"fields": ["published"], "classes": ["collapse"]}),
    ]
    inlines = [ChoiceInline]


admin.site.register(Question, QuestionAdmin)
