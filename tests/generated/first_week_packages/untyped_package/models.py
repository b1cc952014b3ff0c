from django.db import models


class Stamped(models.Model):
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Mail(models.Model):
    subject = models.CharField(max_length=100)

    class Meta:
        app_label = "untyped_package"
