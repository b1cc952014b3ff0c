"""What is said in the log too loudly, said as it is; LOGGING names it."""

import logging


class ResultBackendAway(logging.Filter):
    """A result backend that is away is no reason to restart: the next task connects anew.

    Celery 5.7.0 says at CRITICAL that the application must be restarted. Delete this once
    `celery.backends.asynchronous` no longer does.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if "Celery application must be restarted" in str(record.msg):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg = "The result backend does not answer; the next task tries it again."
        return True
