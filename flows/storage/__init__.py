"""Everything under an output folder, on disk and in buckets."""
