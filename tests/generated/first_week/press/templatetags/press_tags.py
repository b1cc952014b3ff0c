from django import template

from ..models import Article

register = template.Library()


@register.simple_tag
def total_articles():
    return Article.published.count()


@register.filter(name="shout")
def shout(value):
    return value.upper()


@register.inclusion_tag("press/latest.html")
def show_latest(count=5):
    return {"latest": Article.published.order_by("-publish")[:count]}
