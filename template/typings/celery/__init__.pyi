# Types that celery-types lacks: in a Django project each task has `delay_on_commit`, `apply_async` takes
# its arguments as any sequence, and callers of a task with `bind=True` do not pass `self`. All other
# types come from celery-types. Seen in celery-types 0.26.0
# (not reported yet). Once fixed, delete this directory, and mypy_path in pyproject.toml.

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from celery import execute as execute
from celery import local as local
from celery import messaging as messaging
from celery import states as states
from celery._state import current_app as current_app
from celery._state import current_task as current_task
from celery.app import bugreport as bugreport
from celery.app.base import Celery as Celery
from celery.app.task import Task as _Task
from celery.canvas import Signature as Signature
from celery.canvas import chain as chain
from celery.canvas import chord as chord
from celery.canvas import chunks as chunks
from celery.canvas import group as group
from celery.canvas import maybe_signature as maybe_signature
from celery.canvas import signature as signature
from celery.canvas import xmap as xmap
from celery.canvas import xstarmap as xstarmap
from celery.result import AsyncResult
from celery.utils import uuid as uuid

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

VERSION: Any
version_info: Any
__version__: str
subtask = signature

class Task(_Task[_P, _R_co]):
    def delay_on_commit(self, *args: _P.args, **kwargs: _P.kwargs) -> None: ...
    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = ...,
        kwargs: Mapping[str, Any] | None = ...,
        **options: Any,
    ) -> None: ...
    def apply_async(
        self,
        args: Sequence[Any] | None = ...,
        kwargs: Mapping[str, Any] | None = ...,
        task_id: str | None = ...,
        producer: Any = ...,
        link: Any = ...,
        link_error: Any = ...,
        shadow: str | None = ...,
        **options: Any,
    ) -> AsyncResult[_R_co]: ...

class _Decorator(Protocol):
    def __call__(self, run: Callable[_P, _R], /) -> Task[_P, _R]: ...

class _BoundDecorator(Protocol):
    def __call__(self, run: Callable[Concatenate[Any, _P], _R], /) -> Task[_P, _R]: ...

@overload
def shared_task(run: Callable[_P, _R], /) -> Task[_P, _R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> _BoundDecorator: ...
@overload
def shared_task(**options: Any) -> _Decorator: ...
