from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.exposure import science_and_template, simulate_exposure
from flows.simulation.files import write_rubin, write_ztf
from flows.simulation.presets import find_preset
from flows.simulation.subtraction.epochs import draw_epochs
from flows.simulation.subtraction.rendered import method_of, render
from schemas.pixels import MaskPlane
from schemas.truth import TRUTH

SMALL = find_preset("ztf", streaks=3, shape=(420, 440), subtract="zogy")
BARE = replace(
    SMALL, streaks=8, lengths=(1.0, 15.0), snr=(40.0, 80.0), stars=(12_000, 12_001), star_magnitudes=(14.5, 18.5),
    fwhm=(2.6, 3.2), variables=(0, 0), cosmic_rays=(0, 0), bad_columns=(0, 0), hot_pixels=(0, 0), ghosts=(0, 0),
    satellites=0.0, border=0,
)  # fmt: skip


def uniform(optics):
    """Give an image the same PSF all over."""
    field = replace(optics.field, slope=(0.0, 0.0), bowl=0.0, shear_slope=(0.0, 0.0))
    return replace(optics, field=field, coma=(0.0, 0.0, *optics.coma[2:]))


def perfect(conditions):
    """Epochs without noise, errors of registration, calibration and PSFs, or an uneven sky."""
    drawn = draw_epochs(conditions)
    none = replace(drawn.offset_x, modes=())
    errors = ("star_offset", "star_gain", "nonlinearity", "psf_error", "crosstalk", "noise", "sky")
    return replace(drawn, offset_x=none, offset_y=none, gain_error=none, one_psf=False, **dict.fromkeys(errors, 0.0))


@pytest.fixture(scope="module")
def bare():
    """Make a scene whose subtraction has nothing against it: the PSFs are wide enough for the pixels, too."""
    conditions = conditions_of(BARE, 5, 0, 0)
    epochs = perfect(conditions)
    epochs = replace(epochs, science=uniform(epochs.science), template=uniform(epochs.template))
    return conditions, epochs, render(conditions, epochs)


def test_stars_of_a_perfect_pair_leave_less_than_the_noise_of_their_light(bare):
    conditions, _, made = bare
    light = made.science - np.median(made.science)
    trails = np.zeros(light.shape, bool)
    for row in made.truth.to_pylist():
        reach = 30
        y0, x0 = max(0, row["box_ymin"] - reach), max(0, row["box_xmin"] - reach)
        trails[y0 : row["box_ymax"] + reach, x0 : row["box_xmax"] + reach] = True
    noise = np.sqrt(conditions.noise.sigma**2 + np.maximum(light, 0) / BARE.gain)
    rest = (made.difference / noise)[30:-30, 30:-30][~trails[30:-30, 30:-30]]
    assert (light > 50 * conditions.noise.sigma).sum() > 200  # there are stars
    assert np.abs(rest).max() < 1.0
    assert np.sqrt(np.mean(rest**2)) < 0.1


def test_the_written_psf_finds_the_flux_of_an_asteroid(bare):
    conditions, _, made = bare
    checked = 0
    for row in made.truth.to_pylist():
        if row["kind"] != "streak" or row["visible"] < 1 or not 60 < row["x"] < 380 or not 60 < row["y"] < 360:
            continue
        half = made.psf.shape[0] // 2
        model = np.zeros(made.difference.shape)
        along = np.linspace(-0.5, 0.5, 101) * row["length_px"]
        for step in along:
            at_x = row["x"] + step * np.cos(np.deg2rad(row["angle_deg"]))
            at_y = row["y"] + step * np.sin(np.deg2rad(row["angle_deg"]))
            model += _placed(made.psf, half, at_x, at_y, model.shape) / len(along)
        flux = float((model * made.difference).sum() / (model**2).sum())
        assert conditions.magnitude_of(flux) == pytest.approx(row["magnitude"], abs=0.02)
        checked += 1
    assert checked >= 3


def _placed(psf, half, x, y, shape):
    """Shift a PSF by Fourier's theorem."""
    row, column = round(y), round(x)
    waves = np.fft.fft2(psf)
    fy, fx = np.fft.fftfreq(psf.shape[0])[:, None], np.fft.fftfreq(psf.shape[1])[None, :]
    moved = np.fft.ifft2(waves * np.exp(-2j * np.pi * (fy * (y - row) + fx * (x - column)))).real
    out = np.zeros(shape)
    out[row - half : row + half + 1, column - half : column + half + 1] = moved
    return out


def test_noise_is_what_conditions_and_variance_plane_say():
    conditions = conditions_of(replace(BARE, streaks=0, stars=(0, 0.1), shape=(600, 600)), 7, 0, 0)
    epochs = replace(draw_epochs(conditions), sky=0.0)
    made = render(conditions, epochs)
    inner = np.s_[40:-40, 40:-40]
    quiet = (made.mask[inner] == 0) & (np.abs(made.difference[inner]) < 4 * conditions.noise.sigma)
    pixels = made.difference[inner][quiet]
    assert np.std(pixels) == pytest.approx(conditions.noise.sigma, rel=0.05)
    assert np.std(pixels / np.sqrt(made.variance[inner][quiet])) == pytest.approx(1, rel=0.025)
    half = np.s_[:260], np.s_[260:]
    for part in half:
        some = (made.difference[inner][part] / np.sqrt(made.variance[inner][part]))[quiet[part]]
        assert np.std(some) == pytest.approx(1, rel=0.05)


def test_the_same_arguments_give_the_same_pixels():
    one, same = (simulate_exposure(SMALL, 5, 1, 2) for _ in range(2))
    for plane in ("difference", "variance", "mask", "psf"):
        assert getattr(one, plane).tobytes() == getattr(same, plane).tobytes()
    assert one.truth.equals(same.truth)
    for name in ("science", "template"):
        assert one.planes[name].tobytes() == same.planes[name].tobytes()
    assert one.difference.tobytes() != simulate_exposure(SMALL, 6, 1, 2).difference.tobytes()


@pytest.fixture(scope="module")
def rubin():
    return simulate_exposure(find_preset("rubin", streaks=5, shape=(420, 400), subtract="zogy"), 3, 0, 0)


def test_planes_fit_together(rubin):
    assert np.array_equal(np.isnan(rubin.difference), (rubin.mask & np.uint16(MaskPlane.NO_DATA)) != 0)
    assert (rubin.variance > 0).all()
    planes = science_and_template(rubin)
    assert np.isfinite(planes["science"]).all()
    assert np.array_equal(np.isnan(planes["template"]), np.isnan(rubin.difference))
    TRUTH.check(rubin.truth)
    kinds = rubin.truth["kind"].to_pylist()
    assert kinds.count("streak") == 5
    assert set(kinds) <= {"streak", "point", "satellite"}


def test_s_n_of_the_truth_is_that_of_the_pixels():
    """Over realisations of the noise, a matched filter with the true shape scatters as the truth says."""
    conditions = conditions_of(BARE, 5, 0, 0)
    epochs = replace(perfect(conditions), noise=1.0, psf_error=0.0)
    made = render(conditions, epochs)
    row = max((one for one in made.truth.to_pylist() if one["visible"] == 1), key=lambda one: one["snr"])
    stamp = epochs.science.trail(0.0, 0.0, row["length_px"], row["angle_deg"], 12.0).pixels
    half_y, half_x = stamp.shape[0] // 2, stamp.shape[1] // 2
    quiet = np.abs(made.difference) < 4 * conditions.noise.sigma
    pulls = []
    for y in range(40 + half_y, 380 - half_y, 25):
        for x in range(40 + half_x, 400 - half_x, 25):
            here = np.s_[y - half_y : y + half_y + 1, x - half_x : x + half_x + 1]
            if quiet[here].all():
                pulls.append(float((stamp * made.difference[here]).sum()))
    spread = np.std(pulls)
    assert len(pulls) > 40
    assert row["flux"] * (stamp**2).sum() / spread == pytest.approx(row["snr"], rel=0.25)


def test_files_hold_the_psf_of_the_difference(rubin, tmp_path):
    from astropy.io import fits

    from flows.simulation.psf import fitted_moffat

    written = write_rubin(rubin, tmp_path, {})
    assert fits.getheader(written[0])["PSF_FWHM"] == pytest.approx(fitted_moffat(rubin.psf)[0], abs=1e-3)
    ztf = simulate_exposure(SMALL, 5, 1, 2)
    psf = fits.getdata(write_ztf(ztf, tmp_path, {})[1])
    assert psf.shape == (25, 25)
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    middle = ztf.psf.shape[0] // 2
    cut = ztf.psf[middle - 12 : middle + 13, middle - 12 : middle + 13]
    np.testing.assert_allclose(psf, cut / cut.sum(), atol=1e-6)


def test_masks_grow_by_the_reach_of_the_kernels_or_hardly():
    preset = replace(BARE, star_magnitudes=(9.0, 14.0), stars=(1000, 1001))
    conditions = conditions_of(preset, 5, 0, 0)
    epochs = draw_epochs(conditions)
    masks = [render(conditions, replace(epochs, grown=grown)).mask & np.uint16(MaskPlane.SAT) for grown in (1, 12)]
    hardly, grown = ((mask != 0) for mask in masks)
    assert (grown & hardly).sum() == hardly.sum()
    assert grown.sum() > 3 * hardly.sum() > 0


def test_mixed_takes_one_of_them_by_the_seed_of_the_exposure():
    preset = find_preset("ztf", shape=(100, 100), subtract="mixed")
    chosen = [method_of(conditions_of(preset, 1, visit, detector)) for visit in range(3) for detector in range(4)]
    assert set(chosen) == {"zogy", "convolution"}
    assert chosen[:4] == [method_of(conditions_of(preset, 1, 0, detector)) for detector in range(4)]
    made = simulate_exposure(replace(preset, streaks=1), 1, 0, chosen.index("convolution"))
    assert np.isfinite(made.difference).any()
