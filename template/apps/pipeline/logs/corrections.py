"""Filters that correct lines of Celery and kombu."""

import logging

from celery.backends import asynchronous

# Celery logs and raises an error that says to restart the application, although the next task
# reconnects. Seen in celery 5.7.0 (not reported yet). Delete these two lines, the filter and its
# lines in LOGGING once fixed.
NO_ANSWER = "The result backend does not answer. The next task reconnects."
vars(asynchronous)["E_RETRY_LIMIT_EXCEEDED"] = NO_ANSWER


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
