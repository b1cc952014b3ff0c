"""Serves the metrics of this process to Prometheus."""

import logging
import socket

from prometheus_client import disable_created_metrics, start_http_server

logger = logging.getLogger(__name__)


def serve(port: int) -> bool:
    """Serve /metrics on a port, in a thread.

    If the port cannot be opened, log an error and return False. The process goes on.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        # Also over IPv6, because the pods of some Kubernetes clusters have no address of IPv4.
        start_http_server(port, "::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104
    except OSError as error:
        logger.error("METRICS_PORT=%d cannot be opened, so there are no metrics: %s", port, error)
        return False
    logger.info("Prometheus can read the metrics at port %d", port)
    return True
