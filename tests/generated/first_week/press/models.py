from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _


class TimeStampedModel(models.Model):
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class ArticleQuerySet(models.QuerySet):
    def published(self):
        return self.filter(status=Article.Status.PUBLISHED)

    def by(self, author):
        return self.filter(authors=author)


class PublishedManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(status=Article.Status.PUBLISHED)


class TagManager(models.Manager):
    def with_counts(self):
        return self.annotate(count=models.Count("articles"))


class Tag(models.Model):
    name = models.CharField(max_length=30, unique=True)

    objects = TagManager()

    def __str__(self):
        return self.name


class Article(TimeStampedModel):
    class Status(models.TextChoices):
        DRAFT = "DF", _("Draft")
        PUBLISHED = "PB", _("Published")

    title = models.CharField(_("title"), max_length=250)
    slug = models.SlugField(max_length=250, blank=True)
    body = models.TextField()
    status = models.CharField(max_length=2, choices=Status.choices, default=Status.DRAFT)
    publish = models.DateTimeField(default=timezone.now)
    authors = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Credit")
    tags = models.ManyToManyField(Tag, related_name="articles", blank=True)

    objects = ArticleQuerySet.as_manager()
    published = PublishedManager()

    class Meta:
        ordering = ("-publish",)
        indexes = [models.Index(fields=["-publish"])]
        verbose_name_plural = "articles"

    def __str__(self):
        return self.title

    def save(self, *args, **kwargs):
        if not self.slug:
            self.slug = slugify(self.title)
        return super().save(*args, **kwargs)

    def get_absolute_url(self):
        return reverse("press:detail", kwargs={"slug": self.slug})

    @property
    def words(self):
        return len(self.body.split())


class Credit(models.Model):
    article = models.ForeignKey(Article, on_delete=models.CASCADE)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, default="text")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["article", "author"], name="one_credit_each")
        ]


class Draft(Article):
    class Meta:
        proxy = True
