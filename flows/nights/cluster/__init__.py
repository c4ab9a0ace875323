"""Where work runs: Dask workers here, in jobs or elsewhere, and the embedded Prefect server."""
