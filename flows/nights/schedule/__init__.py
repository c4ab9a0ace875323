"""A night that a Prefect server starts by itself, every night."""
