"""Display, checks, export and pruning of an output folder."""
