"""Orbits of known objects of the Solar System: where they are seen from the Earth, and how bright."""
