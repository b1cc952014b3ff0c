"""Makes Celery read Django's settings directly.

For each setting, Celery tries up to four names in `django.conf.settings`, and most raise
AttributeError. These attempts are a sixth of the time that sending a task takes. Django stores the
values in a dictionary, and Celery reads this dictionary instead. While a test overrides settings,
Celery uses `django.conf.settings` as before. Seen in celery 5.7.0 (not reported yet). Delete this
module and its line in `install` once fixed.
"""

from typing import Any

from django.conf import Settings, settings
from django.core.signals import setting_changed

lazy_settings: Any = settings  # django-stubs does not know the attribute `_wrapped`


def read_settings_directly(source: Any, **kwargs: object) -> None:
    """Handle the signal `on_after_configure` of an application. `source` is its `conf`."""
    for values in [*source.maps]:
        if getattr(values, "obj", None) is settings:
            _follow_overrides(source, values)


def _follow_overrides(conf: Any, lazy: Any) -> None:
    maps, used = conf.maps, lazy

    def choose(**kwargs: object) -> None:
        nonlocal used
        overridden = type(lazy_settings._wrapped) is not Settings
        place = [*map(id, maps)].index(id(used))  # `add_defaults` can move it
        maps[place] = used = lazy if overridden else vars(lazy_settings._wrapped)

    choose()
    vars(conf)["choose"] = choose  # so that it is deleted with `conf`
    setting_changed.connect(choose)
