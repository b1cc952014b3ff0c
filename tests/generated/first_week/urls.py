urlpatterns += [
    path("polls/", include("apps.polls.urls")),
    path("press/", include("apps.press.urls")),
    path("api/", include("apps.recipes.urls")),
    path("accounts/", include("allauth.urls")),
]
