"""Pipeline as a graph: stages, their inputs and models."""
