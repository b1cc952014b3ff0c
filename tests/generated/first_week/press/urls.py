from django.urls import path, re_path

from . import views

app_name = "press"
urlpatterns = [
    path("", views.ArticleList.as_view(), name="list"),
    path("new/", views.ArticleCreate.as_view(), name="create"),
    path("contact/", views.Contact.as_view(), name="contact"),
    path("join/", views.Join.as_view(), name="join"),
    path("api/", views.Api.as_view(), name="api"),
    path("<slug:slug>/", views.ArticleDetail.as_view(), name="detail"),
    path("<slug:slug>/publish/", views.publish, name="publish"),
    re_path(r"^(?P<slug>[-\w]+)/edit/$", views.ArticleUpdate.as_view(), name="edit"),
    path("<slug:slug>/delete/", views.ArticleDelete.as_view(), name="delete"),
]
