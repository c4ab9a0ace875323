"""What a PromQL expression asks for."""

import re

from promql_parser import parse

VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
"""Variables of a dashboard, and values for them."""


def filled(expression, interval="5m"):
    """Put values for the variables of the dashboard."""
    for name, value in {**VARIABLES, "$__rate_interval": interval}.items():
        expression = expression.replace(name, value)
    return expression


def asked(expression):
    """Metric name -> labels that are matched, of each selector of an expression."""
    found = {}
    for selector in _selectors(parse(filled(expression))):
        labels = {matcher.name for matcher in selector.matchers.matchers}
        found.setdefault(selector.name, set()).update(labels)
    return found


def grouped(expression):
    """Labels that an expression groups by."""
    groups = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")}


def _selectors(node):
    if type(node).__name__ == "VectorSelector":
        return [node]
    parts = []
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs"):
        part = getattr(node, name, None)
        if part is not None:
            parts.append(part)
    parts += list(getattr(node, "args", None) or [])
    return [selector for part in parts for selector in _selectors(part)]
