"""What torch may round in matrix products, and how to keep it from that."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep products of float32 from TF32 and bfloat16, and sums of bfloat16 products from anything below float32.

    These are choices of the whole process, so that one thread at a time is let in; the process's own come back
    at the end.
    """
    with _LOCK:
        rounding = [one for one in _choices() if getattr(one[0], one[1]) not in one[2]]
        chosen = [getattr(owner, name) for owner, name, _ in rounding]
        try:
            for owner, name, harmless in rounding:
                setattr(owner, name, harmless[0])
            yield
        finally:
            for (owner, name, _), value in zip(rounding, chosen, strict=True):
                setattr(owner, name, value)


def _choices() -> list[tuple[Any, str, tuple[Any, ...]]]:
    """Where they are kept, under which name, and the values that round nothing."""
    backends: Any = torch.backends
    matmul = backends.cuda.matmul
    sums = matmul, "allow_bf16_reduced_precision_reduction", (False,)
    exact = "fp32_precision", ("ieee", "none")
    return [sums, (matmul, *exact), (backends.mkldnn.matmul, *exact)]
