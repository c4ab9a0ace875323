"""Alert packets and their sinks, and reports to the Minor Planet Center, of what a run has published."""
