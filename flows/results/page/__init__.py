"""The night page: what a night gave, on one self-contained HTML file."""
