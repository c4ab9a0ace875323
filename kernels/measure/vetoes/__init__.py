"""Evidence for known causes of false streaks."""
