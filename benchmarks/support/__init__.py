"""What several benchmarks use: their command line, pages and plots, servers, and runs on simulated quadrants."""
