"""Corrections of what Celery and kombu log."""

import logging
from typing import Any

from celery.backends import asynchronous
from django.conf import settings

# Celery logs and raises an error that says to restart the application, although the next task
# reconnects. Seen in celery 5.7.0 (not reported yet). Delete these two lines, the filter and its
# lines in LOGGING once fixed.
NO_ANSWER = "The result backend does not answer. The next task reconnects."
vars(asynchronous)["E_RETRY_LIMIT_EXCEEDED"] = NO_ANSWER


def keep_log_level(logger: logging.Logger, **kwargs: Any) -> None:
    """Handle `after_setup_logger`: LOG_LEVEL, if it is set, overrides `-l` of the command."""
    if settings.LOG_LEVEL:
        logger.setLevel(settings.LOG_LEVEL)


def use_logging(logger: logging.Logger, **kwargs: Any) -> None:
    """Handle `after_setup_task_logger`: write the lines of `get_task_logger` as LOGGING says.

    Celery gives their logger its own handler and level, although `worker_hijack_root_logger` is
    False. Seen in celery 5.7.0 (not reported yet). Delete this and its line in `install` once
    fixed.
    """
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


class ResultBackendReconnect(logging.Filter):
    """Log a lost connection to the result backend as a warning. Celery logs it at CRITICAL."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == NO_ANSWER:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class LostAcknowledgement(logging.Filter):
    """Log an acknowledgement that did not reach the broker as a warning, without a traceback.

    The broker delivers the message again. Kombu logs this at CRITICAL. Seen in kombu 5.7.0 (not
    reported yet). Delete this filter and its lines in LOGGING once fixed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(("Couldn't ack ", "Couldn't reject ")):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            reason = record.args[-1] if isinstance(record.args, tuple) and record.args else ""
            record.msg = (
                "The connection to the broker is lost. A message that was not acknowledged will be "
                f"delivered again: {reason}"
            )
            record.args, record.exc_info = None, None
        return True
