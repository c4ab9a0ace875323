"""What runs, and the only code that knows the world."""
