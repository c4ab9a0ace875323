"""Order and grouping of all tests, for pytest-xdist."""

from collections import Counter

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, and begin with the files that take longest.

    A file that shares something expensive with others names their common group itself: ``xdist_group``.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_name(item)))
    slow = Counter(_group(item) for item in items if item.get_closest_marker("slow"))
    first = {group: n for n, group in enumerate(dict.fromkeys(map(_group, items)))}
    items.sort(key=lambda item: (-slow[_group(item)], first[_group(item)]))


def _name(item):
    return item.path.relative_to(item.config.rootpath).with_suffix("").as_posix()


def _group(item):
    return item.get_closest_marker("xdist_group").args[0]
