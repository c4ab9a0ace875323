"""Alert packets and their sinks, and reports to the Minor Planet Center, for the published results of runs."""
