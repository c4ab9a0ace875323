"""Catalogues against the truth."""
