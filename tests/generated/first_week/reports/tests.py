from io import StringIO

import pytest
from django.core.management import CommandError, call_command


def test_users_are_counted(db):
    out = StringIO()
    call_command("count_users", stdout=out)
    assert "There are 0 users" in out.getvalue()


def test_too_few_are_an_error(db):
    with pytest.raises(CommandError):
        call_command("count_users", "--at-least=1")
