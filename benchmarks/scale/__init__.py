"""Cost of many nights, large cameras, large images and large fields."""
