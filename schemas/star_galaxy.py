"""Star or galaxy: the verdicts on the objects of a night."""

from schemas.class_table import class_dataset

CLASSES = ("star", "galaxy")
"""In the order of the columns of probabilities."""

STAR_GALAXY = class_dataset("star_galaxy", CLASSES)
