"""Ports to the world: readers, tiles, catalogues, ledger."""
