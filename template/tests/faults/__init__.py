"""Tests that cause failures, and check that no accepted task is lost: `just faults`.

They run real processes on a temporary broker and database. Each test causes one kind of failure,
and is a row of the table at the end.

    FAULTS_ROUNDS   full (repeat each fault many times) or short (a few times)
    FAULTS_BROKER   redis or rabbitmq; the default is the kind of the project's broker
    FAULTS_KEEP     a directory for the logs and records of failed tests
"""
