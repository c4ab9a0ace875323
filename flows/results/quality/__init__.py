"""Quality of a night: its measures, compared with fixed limits and earlier nights."""
