"""Objects, stars, galaxies and spectral classes: accuracy, speed, pictures."""
