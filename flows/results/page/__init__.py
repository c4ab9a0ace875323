"""Night page: the results of a night in one self-contained HTML file."""
