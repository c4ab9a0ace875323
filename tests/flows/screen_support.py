"""A screen of two random layers, as its training writes it."""

import numpy as np

from flows.adapters.weights import write_model

CARD = {
    "stage": "screen", "name": "test", "version": "1", "classes": ("below", "worth the network"), "training": {},
    "metrics": {}, "false_alarm_rate": "not set",
}  # fmt: skip


def write_screen(folder, detect_sha256, level=0.3):
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}{n}": rng.normal(size=shape).astype(np.float32)
        for n, size in enumerate([(4, 12), (1, 4)])
        for kind, shape in (("weight", size), ("bias", size[:1]))
    }
    given = {"input": {"features": 12, "detect_sha256": detect_sha256, "threshold": 0.5}, "threshold": level}
    write_model(folder, arrays, CARD | given)
