"""From what a run has published to what the community consumes: alert packets and their sinks, reports."""
