from django.contrib.auth import get_user_model
from django.test import TestCase
from django.urls import reverse


class SignupTests(TestCase):
    def test_sign_up(self):
        with self.assertLogs("apps.accounts.signals") as logs:
            response = self.client.post(reverse("account_signup"), {
                "username": "ada",
                "first_name": "Ada",
                "password1": "correct horse",
                "password2": "correct horse",
            })
        self.assertRedirects(response, "/welcome/", fetch_redirect_response=False)
        self.assertEqual(get_user_model().objects.get().first_name, "Ada")
        self.assertIn("ada signed up", logs.output[0])
