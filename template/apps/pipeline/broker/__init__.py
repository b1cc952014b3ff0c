"""Kombu transports that do not lose messages on reconnect and do not block publishers."""
