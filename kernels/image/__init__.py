"""Images: state of their pixels, noise, cutouts."""
