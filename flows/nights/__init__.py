"""A night from its plan to its page: runs, exposures, whole nights, what is recorded and told of them."""
