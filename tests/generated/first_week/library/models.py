from django.db import models
from untyped_package.models import Stamped


class Book(Stamped):
    title = models.CharField(max_length=100)

    def __str__(self):
        return self.title
