from django.contrib.auth import get_user_model
from rest_framework import status
from rest_framework.test import APITestCase

from .models import Recipe

User = get_user_model()


class RecipeTests(APITestCase):
    def setUp(self):
        self.user = User.objects.create_user("ada", password="secret")

    def test_a_reader_cannot_write(self):
        response = self.client.post("/api/recipes/", {"text": "Cook."}, format="json")
        self.assertEqual(response.status_code, status.HTTP_403_FORBIDDEN)

    def test_a_recipe_has_its_owner(self):
        self.client.force_authenticate(user=self.user)
        data = {"title": "Soup", "text": "Cook."}
        response = self.client.post("/api/recipes/", data, format="json")
        self.assertEqual(response.status_code, status.HTTP_201_CREATED, response.data)
        self.assertEqual(response.data["owner"], "ada")
        page = self.client.get(response.data["highlight"])
        self.assertEqual(page.content, b"SOUP")
        self.assertEqual(self.client.get("/api/people.json").data["results"][0]["count"], 1)

    def test_plain_views(self):
        self.client.force_authenticate(user=self.user)
        answer = self.client.post("/api/plain/", {"title": "Toast", "text": "Toast."})
        self.assertEqual(answer.status_code, status.HTTP_400_BAD_REQUEST)
        answer = self.client.post("/api/plain/", {"title": "Soup", "text": "Cook."})
        address = "/api/plain/%d/" % answer.data["id"]
        self.assertEqual(self.client.get(address).data["title"], "Soup")
        self.assertEqual(self.client.delete(address).status_code, 204)
        self.assertEqual(Recipe.objects.count(), 0)
