from django.contrib.auth import get_user_model
from django.test import TestCase


class ProfileTests(TestCase):
    def setUp(self):
        User = get_user_model()
        self.user = User.objects.create_user("ada", password="secret")

    def test_a_user_has_a_profile(self):
        self.assertIsNone(self.user.profile.bio)
