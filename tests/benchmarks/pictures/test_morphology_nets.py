import numpy as np
from PIL import Image

from benchmarks.pictures.morphology_nets import ENTRIES, Entry, measure
from kernels.pictures.compact_net import PictureNet


def test_networks_have_names_of_their_own():
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) == 5


def test_a_network_is_judged_on_a_fifth_and_goes_on_from_its_checkpoint(tmp_path):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:48, :48] - 23.5
    for label, ratio in (("elliptical", 0.9), ("edge-on", 0.15)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for n in range(30):
            light = 200 * np.exp(-np.hypot(x, y / ratio) / 5) + rng.normal(10, 3, (48, 48))
            Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(tmp_path / f"data/{label}/{n}.png")
    entry, lines = Entry("small", lambda: PictureNet(classes=4), 16, 25, 3e-3), []
    found = measure(entry, [tmp_path / "data"], tmp_path, 1, lines.append)
    assert (found["n"], found["epochs"], len(lines)) == (12, 25, 25)
    assert found["accuracy"] > 0.8
    again = measure(entry, [tmp_path / "data"], tmp_path, 1, lines.append)
    assert len(lines) == 25
    assert again["confusion"] == found["confusion"]
