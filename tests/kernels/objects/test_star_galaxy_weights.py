import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card, read_weights, write_model
from kernels.objects.star_galaxy_weights import PICTURES_OF_PSF, build_baselines, build_star_galaxy, new_net
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard
from tests.support.star_galaxy import cutouts, small, write_small

SHIPPED = ("multi_band", "single_band", "basic_cnn", "resnet", "mlp")


def test_survives_writing_and_reading(tmp_path):
    card = write_small(tmp_path)
    model = load_model("star_galaxy", str(tmp_path))
    assert model.card.sha256 == card.sha256
    assert model.version == "multi_band-7"
    verdicts = model(cutouts(1, 30).cutouts[:5])
    assert np.isfinite(verdicts.probability).all()
    again = load_model("star_galaxy", str(tmp_path))(cutouts(1, 30).cutouts[:5])
    np.testing.assert_array_equal(verdicts.probability, again.probability)


def test_baselines_lie_beside_it(tmp_path):
    write_small(tmp_path)
    _, arrays = read_weights("star_galaxy", str(tmp_path))
    baselines = build_baselines(arrays)
    assert len(baselines.trees.trees.root) == 15


def test_refuses_a_model_of_other_measurements(tmp_path):
    arrays, card = small()
    for name in ("features", "moments"):
        write_model(tmp_path, arrays, card | {"input": card["input"] | {name: ["signal"]}})
        with pytest.raises(Misconfigured, match=f"was trained on the {name} .*train star-galaxy"):
            load_model("star_galaxy", str(tmp_path))


def test_refuses_a_network_it_does_not_know(tmp_path):
    arrays, card = small()
    write_model(tmp_path, arrays, card | {"input": card["input"] | {"network": "transformer"}})
    with pytest.raises(Misconfigured, match=r"network 'transformer', not one of \['basic_cnn', 'mlp', 'resnet'\]"):
        load_model("star_galaxy", str(tmp_path))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_loads_and_judges(name):
    model = load_model("star_galaxy", name)
    assert read_card("star_galaxy", name).metrics
    planes = slice(2, 3) if name == "single_band" else slice(None)
    data = cutouts(2, 20)
    verdicts = model(np.ascontiguousarray(data.cutouts[:, planes]))
    assert np.isfinite(verdicts.probability).all()
    least = {"multi_band": 0.95, "single_band": 0.0}.get(name, 0.93)
    assert ((verdicts.probability[:, 0] > 0.5) == (data.label == 1)).mean() > least


def test_a_new_network_is_small():
    assert sum(one.numel() for one in new_net().parameters()) < 50_000


def test_without_a_share_of_trees_the_networks_decide():
    arrays, card = small()
    kept = {name: value for name, value in card["input"].items() if name != "share_of_trees"}
    model = build_star_galaxy(ModelCard.model_validate(card | {"sha256": "0" * 64, "input": kept}), arrays)
    assert model.share == 0
    assert PICTURES_OF_PSF == 2  # image, image, then PSF and what it leaves
