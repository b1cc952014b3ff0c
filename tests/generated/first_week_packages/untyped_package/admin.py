from django.contrib import admin


class StampedAdmin(admin.ModelAdmin):
    readonly_fields = ["created"]
