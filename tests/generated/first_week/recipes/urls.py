from django.urls import include, path
from rest_framework import routers
from rest_framework.urlpatterns import format_suffix_patterns

from . import views

router = routers.DefaultRouter()
router.register(r"recipes", views.RecipeViewSet, basename="recipe")
router.register(r"users", views.UserViewSet)

plain = [
    path("plain/", views.recipe_list, name="plain"),
    path("plain/<int:pk>/", views.RecipeDetail.as_view()),
    path("mixed/", views.RecipeMixins.as_view()),
    path("people/", views.UserList.as_view()),
]

urlpatterns = format_suffix_patterns(plain) + [
    path("", include(router.urls)),
    path("api-auth/", include("rest_framework.urls", namespace="rest_framework")),
]
