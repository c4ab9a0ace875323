"""Known causes of false streaks: how much speaks for each of them. One cause per file."""
