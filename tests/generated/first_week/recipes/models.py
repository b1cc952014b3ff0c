from django.db import models

LEVELS = [("easy", "Easy"), ("hard", "Hard")]


class Recipe(models.Model):
    created = models.DateTimeField(auto_now_add=True)
    title = models.CharField(max_length=100, blank=True, default="")
    text = models.TextField()
    vegan = models.BooleanField(default=False)
    level = models.CharField(choices=LEVELS, default="easy", max_length=10)
    owner = models.ForeignKey("users.User", related_name="recipes", on_delete=models.CASCADE)
    highlighted = models.TextField(editable=False, default="")

    class Meta:
        ordering = ["created"]

    def save(self, *args, **kwargs):
        self.highlighted = self.title.upper()
        super().save(*args, **kwargs)
