import numpy as np

from flows.simulation.exposure import simulate_exposure
from flows.simulation.planes import science_and_template
from flows.simulation.presets import find_preset
from flows.simulation.truth_objects import night_objects
from schemas.truth_object import TRUTH_OBJECT

BANDS = ("g", "r")
PRESET = find_preset("ztf", 0, (300, 320), BANDS)


def test_what_it_says_is_on_the_science_images_of_all_bands():
    truth = night_objects(PRESET, 3, 2, 1)
    TRUTH_OBJECT.check(truth)
    assert set(truth["kind"].to_pylist()) == {"star", "galaxy"}
    kind = np.array(truth["kind"].to_pylist())
    assert not truth["halfLightRadius"].to_numpy()[kind == "star"].any()
    for visit, band in enumerate(BANDS):
        exposure = simulate_exposure(PRESET, 3, visit, 0)
        assert exposure.conditions.band == band
        image = science_and_template(exposure)["template"]  # the science image without what varies
        magnitude = truth[f"{band}_mag"].to_numpy()
        bright = (magnitude < 18) & (magnitude > 15)
        stars = (kind == "star")[bright]
        x, y = exposure.conditions.to_pixels(truth["ra"].to_numpy()[bright], truth["dec"].to_numpy()[bright])
        on = (x > 3) & (x < 316) & (y > 3) & (y < 296)
        light = image[np.rint(y[on]).astype(int), np.rint(x[on]).astype(int)] / exposure.conditions.noise.sigma
        seen = np.isfinite(light)
        assert (seen & stars[on]).sum() > 5
        assert (light[seen & stars[on]] > 10).all()
        assert (light[seen & ~stars[on]] > 1).all()


def test_each_field_and_detector_has_its_own():
    truth = night_objects(PRESET, 3, 7, 2)  # 6 visits of a field in 2 bands
    assert set(truth["detector"].to_pylist()) == {0, 1}
    assert len(truth) > 1.5 * len(night_objects(PRESET, 3, 6, 2))
