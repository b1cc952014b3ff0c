"""The template's code, which connects Django, Celery and the broker.

Updates of the template change this package. Put your own code into other apps.
"""
