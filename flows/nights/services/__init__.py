"""PostgreSQL, a Prefect server on it and a worker, as processes of this machine."""
