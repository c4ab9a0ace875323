"""Night from its plan to its page: runs, exposures, whole nights, records and progress."""
