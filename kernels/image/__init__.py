"""Images: which pixels count, their noise, pieces of them."""
