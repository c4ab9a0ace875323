"""Quality of a night: what it measured, against fixed limits and earlier nights."""
