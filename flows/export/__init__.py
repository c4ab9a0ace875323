"""Published catalogues in the formats of other programs."""
