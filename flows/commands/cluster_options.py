"""Where work runs, as it is given on the command line."""


def cluster_overrides(scheduler: str | None, workers: int | None, **execution: object) -> dict[str, dict[str, object]]:
    """Give the settings that ``--scheduler`` and ``--workers`` stand for, and others of ``execution``.

    A scheduler goes before ``cluster.kind`` of the settings file. A value of None was not given.
    """
    kind = None if scheduler is None else "address"
    return {"cluster": {"kind": kind, "address": scheduler}, "execution": {"workers": workers, **execution}}
