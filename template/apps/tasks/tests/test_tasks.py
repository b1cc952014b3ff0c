from datetime import timedelta

import pytest
from celery import Celery
from django.utils import timezone
from kombu.exceptions import EncodeError
from pytest_django import DjangoCaptureOnCommitCallbacks

from apps.tasks.tasks import cleanup_inactive_users_task, example_task
from apps.users.models import User


class TestExampleTask:
    def test_processes_message(self) -> None:
        result = example_task("Hello")
        assert result == "Processed: Hello"

    def test_its_arguments_are_serialized_to_json(self, celery_app: Celery) -> None:
        assert example_task.delay("Hello").get() == "Processed: Hello"
        with pytest.raises(EncodeError, match="not JSON serializable"):
            example_task.apply_async(args=[object()])

    def test_it_is_sent_when_the_transaction_commits(
        self,
        celery_app: Celery,
        db: None,
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        with django_capture_on_commit_callbacks() as callbacks:
            example_task.delay_on_commit("Hello")
        assert len(callbacks) == 1

    def test_a_task_sent_by_accident_stays_in_this_process(self, db: None) -> None:
        with example_task.app.connection_for_write() as connection:
            assert connection.transport.driver_type == "memory"
        result = example_task.delay("by accident")
        assert result.state == "PENDING"


class TestCleanupInactiveUsersTask:
    def test_returns_how_many_were_deactivated(self, db: None) -> None:
        long_ago = timezone.now() - timedelta(days=400)
        User.objects.create(**{User.USERNAME_FIELD: "gone", "date_joined": long_ago})
        assert cleanup_inactive_users_task() == 1
