"""Point-spread function: models, width, variation over an image."""
