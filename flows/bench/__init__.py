"""How fast the search is, beside other ways of doing the same."""
