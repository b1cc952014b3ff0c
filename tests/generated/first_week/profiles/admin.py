from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin

from .models import Profile

User = get_user_model()


class ProfileInline(admin.StackedInline):
    model = Profile
    can_delete = False
    verbose_name_plural = "profile"


class UserAdmin(BaseUserAdmin):
    inlines = [ProfileInline]
    list_display = BaseUserAdmin.list_display + ("is_active",)
    fieldsets = BaseUserAdmin.fieldsets + (("More", {"fields": ()}),)


admin.site.unregister(User)
admin.site.register(User, UserAdmin)
