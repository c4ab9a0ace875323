import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.nets.basic_cnn import BasicCnn
from kernels.search.detector import WindowScorer
from schemas.dataset import DatasetError
from schemas.dia_source import SearchCounts
from schemas.pixels import MaskPlane, SearchGrid, Tiling
from schemas.settings import DetectSettings
from schemas.stage import Context, Rehearsal, Result
from stages.detect import STAGE
from tests.support.cards import model_card
from tests.support.exposure import exposure_info

CARD = model_card(input={"kind": "windows", "bands": 1, "side": 26})


def scorer(seed=0):
    torch.manual_seed(seed)
    return WindowScorer(BasicCnn().eval(), CARD, torch.device("cpu"))


def exposure(shape, background=0.0):
    return exposure_info(shape, background=background)


def search(image, mask, tile, chosen, background=0.0, model=None):
    """Hits of all tiles, as a dictionary from grid position to logit, and the summed counts."""
    tiling = Tiling(image.shape, tile)
    hits, windows, unscored = {}, 0, 0
    for part in tiling.tiles():
        cut = (slice(part.y0, part.y1), slice(part.x0, part.x1))
        context = Context(exposure(image.shape, background), part, chosen, {"detect": model or scorer()})
        table, counts = STAGE({"difference": image[cut].copy(), "mask": mask[cut].copy()}, context)
        windows, unscored = windows + counts.windows, unscored + counts.unscored
        for row, column, logit in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            assert (row, column) not in hits
            hits[row, column] = logit
    return hits, windows, unscored


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(26, 150), st.integers(26, 150)),
    steps=st.integers(1, 20),
    batch=st.sampled_from([1, 16, 64, 100]),
)
def test_tiled_search_equals_untiled_to_the_bit(seed, shape, steps, batch):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 5, shape).astype(np.float32)
    mask = np.where(rng.random(shape) < 0.1, MaskPlane.BAD, 0).astype(np.uint16)
    chosen = DetectSettings(threshold=1e-6, batch=batch)
    whole = search(image, mask, 7 * 1000, chosen)
    assert whole[0]
    assert search(image, mask, 7 * steps, chosen) == whole


def test_agrees_with_plain_loop():
    rng = np.random.default_rng(5)
    image = rng.normal(10_000, 5, (90, 100)).astype(np.float32)
    hits, windows, unscored = search(image, np.zeros(image.shape, np.uint16), 49, DetectSettings(threshold=1e-6))
    net = scorer().net
    assert (windows, unscored) == (len(hits), 0)
    assert windows == 10 * 11
    for (row, column), logit in hits.items():
        window = image[row * 7 : row * 7 + 26, column * 7 : column * 7 + 26].astype(float)
        z = torch.tensor((window - window.mean()) / window.std(), dtype=torch.float32)
        with torch.no_grad():
            scores = net(z[None, None])[0]
        assert logit == pytest.approx(float(scores[1] - scores[0]), abs=1e-5)


def test_masked_windows_are_counted_and_give_no_hit():
    image = np.random.default_rng(6).normal(0, 1, (40, 200)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint16)
    mask[:, 100:] = MaskPlane.NO_DATA
    image[:, 100:] = np.nan
    hits, windows, unscored = search(image, mask, 1008, DetectSettings(threshold=1e-6))
    beyond = [start for start in range(0, 200 - 25, 7) if start + 13 > 100]
    assert unscored == 3 * len(beyond)
    assert len(hits) == windows - unscored
    assert all(column * 7 + 13 <= 100 for _, column in hits)


def test_planes_that_are_information_do_not_mask():
    image = np.random.default_rng(7).normal(0, 1, (26, 26)).astype(np.float32)
    mask = np.full(image.shape, MaskPlane.DETECTED | MaskPlane.STREAK, np.uint16)
    assert search(image, mask, 1008, DetectSettings(threshold=1e-6))[2] == 0


def test_threshold_comes_from_the_card_unless_set():
    image = np.random.default_rng(8).normal(0, 1, (200, 200)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint16)
    everything = search(image, mask, 1008, DetectSettings(threshold=1e-6))[0]
    middle = float(np.median(list(everything.values())))
    card = CARD.model_copy(update={"threshold": float(1 / (1 + np.exp(-middle)))})
    model = WindowScorer(scorer().net, card, torch.device("cpu"))
    kept = search(image, mask, 1008, DetectSettings(), model=model)[0]
    assert 0.4 < len(kept) / len(everything) < 0.6
    assert min(kept.values()) >= middle - 1e-6


def test_refuses_pixels_of_another_size():
    tile = Tiling((26, 26)).tiles()[0]
    context = Context(exposure((26, 26)), tile, DetectSettings(), {"detect": scorer()})
    with pytest.raises(DatasetError, match=r"needs its own pixels, got \(27, 26\)"):
        STAGE({"difference": np.zeros((27, 26), np.float32), "mask": np.zeros((27, 26), np.uint16)}, context)


class Fixed:
    """Detector that gives known log odds, and keeps what it was asked for."""

    grid, card = SearchGrid(26, 7, 0, 26), CARD

    def __init__(self, logits):
        self.logits, self.asked = np.array(logits, np.float32), []

    def search(self, plane, places):
        self.asked.append((plane, places))
        return self.logits, 3


def test_hits_reach_the_threshold_and_have_their_place_on_the_grid():
    tile = Tiling((300, 400), 49).tiles()[9 + 2]
    count = tile.rows * tile.columns
    logits = np.full(count, -1e-6)
    logits[[4, 10, count - 1]] = 0.0, 2.5, 1e-6
    model = Fixed(logits)
    pixels = np.zeros((tile.y1 - tile.y0, tile.x1 - tile.x0), np.float32)
    mask = np.where(np.indices(pixels.shape)[0] < 5, MaskPlane.SAT, 0).astype(np.uint16)
    context = Context(exposure((300, 400), 2.5), tile, DetectSettings(), {"detect": model})
    table, counts = STAGE({"difference": pixels, "mask": mask}, context)
    rows, columns = np.divmod([4, 10, count - 1], tile.columns)
    assert table["row"].to_pylist() == (rows + tile.row0).tolist()
    assert table["column"].to_pylist() == (columns + tile.column0).tolist()
    assert table["logit"].to_pylist() == [0.0, 2.5, np.float32(1e-6)]
    assert (counts.windows, counts.unscored, counts.grid) == (count, 3, model.grid)
    ((plane, places),) = model.asked
    assert (places.y, places.x) == (7 * tile.row0 - tile.y0, 7 * tile.column0 - tile.x0)
    assert (places.rows, places.columns, places.stride) == (tile.rows, tile.columns, 7)
    np.testing.assert_array_equal(plane.usable, mask == 0)
    strict = Context(exposure((300, 400)), tile, DetectSettings(threshold=0.9), {"detect": model})
    assert len(STAGE({"difference": pixels, "mask": mask}, strict).rows) == 1
    for images in ({"difference": pixels[1:], "mask": mask}, {"difference": pixels, "mask": mask[:, 1:]}):
        with pytest.raises(DatasetError, match="needs its own pixels"):
            STAGE(images, context)


def test_a_tile_and_an_exposure_are_needed():
    tile = Tiling((26, 26)).tiles()[0]
    for one in (Context(exposure((26, 26)), None, DetectSettings()), Context(None, tile, DetectSettings())):
        context = Context(one.exposure, one.tile, one.settings, {"detect": scorer()})
        with pytest.raises(DatasetError, match="needs a tile and an exposure"):
            STAGE({"difference": np.zeros((26, 26), np.float32), "mask": np.zeros((26, 26), np.uint16)}, context)


def test_places_to_warm_up_on_hold_pieces_of_the_trails():
    trails = (((40.0, 35.0), 20.0, 0.3), ((70.0, 20.0), 0.0, 1.0))
    result = Result(None, SearchCounts(9, 0, SearchGrid()))
    found = STAGE.warm_up(result, Rehearsal(SearchGrid(10, 5, 0, 10), (100, 85), trails))
    centres = np.arange(5, 81, 5.0)  # of places on 85 px
    expected = set()
    for (x0, y0), length, angle in trails:
        for step in range(-4, 5):
            x, y = x0 + step * length / 8 * np.cos(angle), y0 + step * length / 8 * np.sin(angle)
            expected.add((int(abs(centres - y).argmin()), int(abs(centres - x).argmin())))
    places = list(zip(found.rows["row"].to_pylist(), found.rows["column"].to_pylist(), strict=True))
    assert places == sorted(expected)
    assert set(found.rows["logit"].to_pylist()) == {4.0}
    assert found.numbers is result.numbers
    corner = STAGE.warm_up(result, Rehearsal(SearchGrid(10, 5, 0, 10), (85, 84), (((99.0, 99.0), 0.0, 0.0),)))
    assert corner.rows["row"].to_pylist() == corner.rows["column"].to_pylist() == [14]  # 15 places on 84 px


def test_memory_grows_with_the_tile_and_the_batch():
    one, larger = (STAGE.memory(shape, DetectSettings(batch=32)) for shape in ((1000, 800), (1000, 801)))
    assert one == 1000 * 800 * 128 + 32 * 64 * 1024
    assert larger - one == 1000 * 128
