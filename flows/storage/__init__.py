"""Storage of everything in an output folder, on disk and in buckets."""
