"""Numbers with the nouns that they count."""


def counted(count: int, name: str) -> str:
    """Return a number with the noun it counts, in the singular for one.

    >>> counted(1, "file"), counted(1200, "upper limit")
    ('1 file', '1,200 upper limits')
    """
    return f"{count:,} {name}{'' if count == 1 else 's'}"
