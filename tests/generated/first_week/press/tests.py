from django.contrib.auth import get_user_model
from django.test import Client, TestCase
from django.urls import reverse

from .models import Article, Credit, Draft, Tag

User = get_user_model()


class PressTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.author = User.objects.create_user("ada", "ada@example.com", "secret")

    def test_an_article_is_written_and_published(self):
        self.client.force_login(self.author)
        response = self.client.post(reverse("press:create"), {"title": "Hello all", "body": "Text"})
        article = Article.objects.get()
        self.assertRedirects(response, "/press/hello-all/", fetch_redirect_response=False)
        self.assertEqual(list(Article.objects.by(self.author)), [article])
        self.assertEqual(Article.published.count(), 0)
        response = self.client.post(reverse("press:publish", args=[article.slug]))
        self.assertEqual(response.status_code, 302)
        self.assertQuerySetEqual(Article.objects.published(), [article])
        self.assertEqual(Credit.objects.get().role, "text")
        self.assertIn("X-Time", response)

    def test_search(self):
        Draft.objects.create(title="Soup", body="Cook it.")
        found = Client().get("/press/api/?q=cook").json()
        self.assertEqual(found, {"articles": ["Soup"]})

    def test_somebody_joins(self):
        data = {"username": "grace", "email": "grace@example.com"}
        data["password1"] = data["password2"] = "correct horse"
        self.client.post("/press/join/", data)
        self.assertEqual(User.objects.get(username="grace").email, "grace@example.com")

    def test_tags_are_counted(self):
        Tag.objects.create(name="news")
        self.assertEqual(Tag.objects.with_counts()[0].count, 0)
