"""Order of all tests: files that take longest first, so that no process of pytest-xdist is left alone with one."""

from collections import Counter


def pytest_collection_modifyitems(items):
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
