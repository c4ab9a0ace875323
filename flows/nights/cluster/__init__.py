"""Dask workers on this machine, in jobs or elsewhere, and the embedded Prefect server."""
