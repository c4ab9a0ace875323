"""The pipeline as a graph: which stages run on what, from which inputs, with which models."""
