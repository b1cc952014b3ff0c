import datetime

from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from .models import Question


class QuestionTests(TestCase):
    def test_an_old_question_is_not_recent(self):
        time = timezone.now() - datetime.timedelta(days=30)
        self.assertIs(Question(published=time).is_recent(), False)

    def test_a_question_has_a_page(self):
        question = Question.objects.create(text="Who?", published=timezone.now())
        self.assertEqual(str(question), "Who?")

    def test_a_vote_counts(self):
        question = Question.objects.create(text="Who?", published=timezone.now())
        choice = question.choice_set.create(label="Ada")
        response = self.client.post(reverse("polls:vote", args=(question.id,)), {"choice": choice.id})
        self.assertEqual(response.status_code, 302)
        choice.refresh_from_db()
        self.assertEqual(choice.votes, 1)
        self.assertContains(self.client.get(response.url), "Who?")
