"""What can be seen, checked and taken from an output folder."""
