"""Networks and tree ensembles, as their weights describe them."""
