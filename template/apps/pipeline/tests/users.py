"""Users of the project's user model, whatever fields it requires."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Field


def create_user(name: str, **fields: Any) -> Any:
    return create(get_user_model(), name, **fields, is_active=True)


def create(model: Any, name: str, **fields: Any) -> Any:
    """Save an instance of the model with values for the fields that it requires."""
    instance = model()
    for field in model._meta.concrete_fields:
        if field.primary_key or field.null or field.blank or field.has_default():
            continue
        if other := field.related_model:
            value = other._default_manager.first() or create(other, name)
        else:
            value = accepted(field, name)
        setattr(instance, field.name, value)
    for field, value in fields.items():
        setattr(instance, field, value)
    instance.save()
    return instance


def accepted(field: "Field[Any, Any]", name: str) -> Any:
    """The first of these values that the field accepts."""
    values = [name, f"{name}@example.com", "https://example.com", "1", "+12125552368"]
    values += ["2000-01-01T00:00Z", "2000-01-01", str(uuid4()), *dict(field.flatchoices)]
    for value in values:
        with suppress(ValidationError):
            return field.clean(value, None)
    raise AssertionError(f"The tests have no value for {field}.")
