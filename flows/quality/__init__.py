"""How good a night is: what it measured, against fixed limits and against earlier nights."""
