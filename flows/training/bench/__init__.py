"""Speed of the search, beside other ways to do the same."""
