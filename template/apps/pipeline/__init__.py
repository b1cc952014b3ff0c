"""What the template owns: the machinery between Django, Celery and the broker.

Updates of the template change this package; your own code belongs beside it.
"""
