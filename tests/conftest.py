"""Order of all tests, and properties that do not depend on how fast the machine is.

Files that take longest come first, so that no process of pytest-xdist is left alone with one.
"""

from collections import Counter

from hypothesis import HealthCheck, settings

settings.register_profile("nightstride", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nightstride")


def pytest_collection_modifyitems(items):
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
