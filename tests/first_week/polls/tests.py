import datetime

from django.test import TestCase
from django.utils import timezone

from .models import Question


class QuestionTests(TestCase):
    def test_an_old_question_is_not_recent(self):
        time = timezone.now() - datetime.timedelta(days=30)
        self.assertIs(Question(published=time).is_recent(), False)

    def test_a_question_has_a_page(self):
        question = Question.objects.create(text="Who?", published=timezone.now())
        self.assertEqual(str(question), "Who?")
