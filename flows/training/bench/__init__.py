"""Speed of the search, beside other ways of doing the same."""
