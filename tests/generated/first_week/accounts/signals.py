import logging

from allauth.account.signals import user_signed_up
from django.dispatch import receiver

logger = logging.getLogger(__name__)


@receiver(user_signed_up)
def tell(request, user, **kwargs):
    logger.info(f"{user.username} signed up")
