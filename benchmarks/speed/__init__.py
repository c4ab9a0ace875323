"""Time and memory of one run: search, tiles, start, overhead."""
