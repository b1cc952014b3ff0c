"""Installs this package in a Celery application."""

from typing import Any

from celery import Celery, signals
from celery.app.backends import BACKEND_ALIASES
from celery.app.task import Task
from kombu.transport import TRANSPORT_ALIASES

from apps.pipeline.conf import read_settings_directly
from apps.pipeline.logs import corrections
from apps.pipeline.logs.ids import on_start
from apps.pipeline.worker.memory import freeze

TRANSPORTS = {
    "amqp": "apps.pipeline.broker.amqp:AMQPTransport",
    "amqps": "apps.pipeline.broker.amqp:AMQPSTransport",
    "redis": "apps.pipeline.broker.redis.transport:Transport",
    "rediss": "apps.pipeline.broker.redis.transport:Transport",
    "sentinel": "apps.pipeline.broker.redis.transport:SentinelTransport",
    "sqs": "apps.pipeline.broker.sqs.transport:Transport",
}
RESULT_BACKENDS = {
    "redis": "apps.pipeline.broker.redis.results:RedisBackend",
    "rediss": "apps.pipeline.broker.redis.results:RedisBackend",
    "sentinel": "apps.pipeline.broker.redis.results:SentinelBackend",
}
WORKER_STEPS = (
    "apps.pipeline.worker.timeouts:WorkerTimeouts",
    "apps.pipeline.worker.lease:Lease",
    "apps.pipeline.worker.shutdown:SoftShutdown",
    "apps.pipeline.worker.results:PartialResults",
    "apps.pipeline.worker.writers:KnownWriters",
)
CONSUMER_STEPS = ("apps.pipeline.worker.heartbeat:Heartbeat",)


def install(app: Celery) -> None:
    """Install this package's transports, backends, queues, tasks and steps in an application.

    Call it before the application is used. The transports and result backends apply to all
    applications of the process, because kombu and Celery have one table of URL schemes each. The
    class of requests, `bind` and the signals apply to them too.
    """
    TRANSPORT_ALIASES.update(TRANSPORTS)
    BACKEND_ALIASES.update(RESULT_BACKENDS)
    app.amqp_cls = "apps.pipeline.broker.queues:AMQP"
    app.control_cls = "apps.pipeline.broker.control:Control"
    app.task_cls = "apps.pipeline.worker.task:Task"
    # For all tasks, even those with a base class from a library.
    Task.bind = classmethod(bind)  # type: ignore[assignment,method-assign]
    Task.Request = "apps.pipeline.worker.request:Request"
    signals.after_setup_logger.connect(corrections.keep_log_level)
    signals.after_setup_task_logger.connect(corrections.use_logging)
    signals.task_prerun.connect(on_start)
    signals.celeryd_after_setup.connect(freeze)
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)
    app.on_after_configure.connect(read_settings_directly)
    signals.import_modules.connect(check_configuration, sender=app)


celerys_bind: Any = vars(Task)["bind"].__func__


def bind(cls: Any, app: Any) -> Any:
    """Connect the class of a task to an application.

    If it has a base class of a library, also derive it from the class of the application's tasks.
    Celery uses `task_cls` only for tasks without a base class.
    """
    if not (issubclass(cls, app.Task.__bases__) or issubclass(app.Task, cls)):
        others = [base for base in cls.__bases__ if not issubclass(app.Task, base)]
        cls.__bases__ = (*others, app.Task)
    return celerys_bind(cls, app)


def check_configuration(**kwargs: Any) -> None:
    """Before worker or Beat starts, check the configuration. If there are errors, exit."""
    from apps.pipeline.checks.report import report_and_exit

    report_and_exit()
