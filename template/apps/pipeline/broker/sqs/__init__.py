"""Kombu's SQS transport, changed so that workers extend the visibility timeout of their messages.

The transport needs boto3, which only projects with SQS install. The module `lease` does not.
"""
