import numpy as np
import pytest
import torch

from flows.training.fits import TreeFit, fit_trees
from flows.training.star_galaxy_inputs import standardised
from kernels.objects.cutout_features import FEATURES, MOMENTS, OF_PSF, band_views, make_planes
from kernels.objects.star_galaxy_model import (
    SETS,
    SIGNAL,
    Known,
    LocusCut,
    MomentTrees,
    PlaneNet,
    Raw,
    StarGalaxyModel,
    apply_nets,
    best_signal,
    fit_locus,
    locate_signal,
    locus,
    moments_of,
    said_of_planes,
    with_trees,
    z_scored,
)
from kernels.objects.star_galaxy_weights import PLANE_NETS, build_star_galaxy
from schemas.errors import BadInput
from schemas.model_card import ModelCard
from schemas.objects import SIDE
from tests.support.cards import model_card
from tests.support.star_galaxy import cutouts, small


def model(psf="with"):
    arrays, card = small(psf)
    return build_star_galaxy(ModelCard.model_validate(card | {"sha256": "0" * 64}), arrays)


@pytest.fixture(scope="module")
def net():
    return model()


@pytest.fixture
def data():
    return cutouts(2, 20)


def test_tells_stars_from_galaxies_it_has_not_seen(net, data):
    verdicts = net(data.cutouts)
    assert ((verdicts.probability[:, 0] > 0.5) == (data.label == 1)).mean() > 0.85
    np.testing.assert_allclose(verdicts.probability.sum(1), 1, atol=1e-6)
    assert (verdicts.outlier > 1).mean() < 0.1


def test_no_usable_band_has_no_verdict(net, data):
    given = data.cutouts[:4].copy()
    given[1, :4] = np.nan
    given[2, :4] = 5.0
    given[3, :4, 11:16, 11:16] = given[3].max() * 2  # saturated: clipped in every band
    verdicts = net(given)
    assert np.isnan(verdicts.outlier).tolist() == [False, True, True, True]
    assert np.isnan(verdicts.probability[1:]).all()


def test_an_empty_cutout_is_an_outlier(net, data):
    empty = data.cutouts[:50].copy()
    empty[:, :4] = np.random.default_rng(1).normal(0, 10, (50, 4, 26, 26))
    assert (net(empty).outlier > 1).mean() > 0.8


def test_what_is_neither_star_nor_galaxy_is_an_outlier(net, data):
    trail = data.cutouts[:20].copy()
    rng = np.random.default_rng(2)
    trail[:, :4] = rng.normal(0, 1, (20, 4, 26, 26))
    trail[:, :4, ::2, :] += 300  # stripes
    trail[:, :4, 13, 13] += 5000 * rng.random(20)[:, None]
    assert np.median(net(trail).outlier) > np.median(net(data.cutouts).outlier) * 2


@pytest.mark.parametrize("side", [16, 21, 40])
def test_takes_any_side_from_16_px_on(net, data, side):
    given = np.full((3, 8, side, side), np.nan, np.float32)
    if side <= 26:
        first = 13 - side // 2
        given[:] = data.cutouts[:3, :, first : first + side, first : first + side]
    else:
        first = side // 2 - 13
        given[:, :, first : first + 26, first : first + 26] = data.cutouts[:3]
    verdicts = net(given)
    assert np.isfinite(verdicts.probability).all()


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 7, 26, 26), "have 7 planes"),
        ((2, 0, 26, 26), "have 0 planes"),
        ((2, 8, 15, 26), "less than 16 px"),
        ((2, 26, 26), "not floating-point numbers"),
    ],
)
def test_refuses_other_shapes(net, shape, match):
    with pytest.raises(BadInput, match=match):
        net(np.zeros(shape, np.float32))


def test_refuses_other_types(net):
    with pytest.raises(BadInput, match="int64"):
        net(np.zeros((1, 8, 26, 26), np.int64))


def test_nothing_gives_nothing(net):
    assert net(np.zeros((0, 8, 26, 26), np.float32)).probability.shape == (0, 2)


def test_without_psf_every_plane_is_an_image(data):
    single = model("without")
    verdicts = single(np.ascontiguousarray(data.cutouts[:, 2:3]))
    assert ((verdicts.probability[:, 0] > 0.5) == (data.label == 1)).mean() > 0.75
    assert single.bands_of(data.cutouts[:, :3]) == 3


def test_distance_is_that_of_mahalanobis():
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 4000)
    codes = (rng.normal(size=(8000, 3)) * [1, 2, 4] + np.array([[0, 0, 0], [9, 0, 0]])[label]).astype(np.float32)
    known = Known(*locate_signal(codes, label), limit=4.0, signal=2.0)
    distance = known.distance(np.array([[0, 0, 0], [0, 2, 0], [0, 0, 8], [9, 6, 0]], np.float32))
    np.testing.assert_allclose(distance, [0, 1, 2, 3], atol=0.15)
    outlier = known.outlier(Raw(np.zeros(2), np.array([[0, 0, 12], [0, 0, 0]], np.float32), np.array([5.0, 1.0])))
    np.testing.assert_allclose(outlier, [0.75, 2.0], atol=0.05)


def model_star_galaxy_net(share):
    arrays, card = small()
    changed = card | {"sha256": "0" * 64, "input": card["input"] | {"share_of_trees": share}}
    return build_star_galaxy(ModelCard.model_validate(changed), arrays)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_log_odds_of_networks_and_trees_are_mixed_by_their_share(share):
    net = model_star_galaxy_net(share)
    planes = make_planes(cutouts(1, 30).cutouts[:20], 4, 26)
    views = band_views(planes)
    raw = net.raw(planes, views)
    networks = apply_nets(net.nets, views)
    trees = net.trees.log_odds(views.features, views.usable, views.has_psf)
    np.testing.assert_allclose(raw.log_odds, (1 - share) * networks.log_odds + share * trees, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(raw.codes, networks.codes)
    np.testing.assert_array_equal(with_trees(networks, views, net.trees, share).log_odds, raw.log_odds)


def test_members_are_averaged():
    net = model_star_galaxy_net(0.0)
    views = band_views(make_planes(cutouts(1, 30).cutouts[:20], 4, 26))
    other = model_star_galaxy_net(0.0).nets[0]
    for weight in other.parameters():
        weight.data *= 0.9
    one, two = (apply_nets((member,), views).log_odds for member in (net.nets[0], other))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(apply_nets((net.nets[0], other), views).log_odds, (one + two) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_neither_order_nor_number_of_absent_bands_matters(share):
    net, data = model_star_galaxy_net(share), cutouts(2, 20)
    part = np.ascontiguousarray(data.cutouts[:, [1, 2, 5, 6]])
    turned = np.ascontiguousarray(data.cutouts[:, [2, 1, 6, 5]])
    absent = data.cutouts.copy()
    absent[:, [0, 3, 4, 7]] = np.nan
    expected = net(part).probability
    np.testing.assert_allclose(net(turned).probability, expected, atol=1e-5)
    np.testing.assert_allclose(net(absent).probability, expected, atol=1e-5)


@pytest.mark.parametrize("present", [[], [2], [0, 3], [0, 1, 2, 3]])
def test_bands_that_no_object_has_are_not_measured(net, data, present, monkeypatch):
    given = data.cutouts.copy()
    given[:, [band for band in range(8) if band % 4 not in present]] = np.nan
    measured = []
    monkeypatch.setattr(
        "kernels.objects.star_galaxy_model.band_views",
        lambda planes: measured.append(planes.image.shape[1]) or band_views(planes),
    )
    fast = net(given)
    assert measured == ([len(present)] if present else [])
    monkeypatch.setattr(type(net), "of_interest", StarGalaxyModel.of_interest)
    plain = net(given)
    np.testing.assert_array_equal(fast.probability, plain.probability)
    np.testing.assert_array_equal(fast.outlier, plain.outlier)


CARD = model_card(stage="star_galaxy", name="basic_cnn", classes=("star", "galaxy"))


@pytest.fixture(scope="module")
def model_plane_net():
    torch.manual_seed(1)
    net = PLANE_NETS["basic_cnn"](8).eval()
    data = cutouts(2, 20)
    pixels = torch.from_numpy(z_scored(make_planes(data.cutouts, 4, SIDE)))
    _, codes = said_of_planes(net, pixels)
    known = Known(*locate_signal(codes, data.label), 8.0, 1.0)
    return PlaneNet(known=known, slope=1.0, offset=0.0, psf="with", side=SIDE, card=CARD, net=net, bands=4)


def test_planes_are_z_scored_as_for_the_comparison():
    data = cutouts(1, 20)
    ours = z_scored(make_planes(data.cutouts, 4, SIDE))
    np.testing.assert_allclose(ours, standardised(data.cutouts).float().numpy(), atol=4e-3)  # that is float16


def test_a_missing_band_is_all_zeros_and_its_psf_with_it():
    given = cutouts(1, 20).cutouts.copy()
    given[:, 1] = np.nan
    given[:, 6] = np.nan
    planes = z_scored(make_planes(given, 4, SIDE))
    assert not planes[:, [1, 5, 6]].any()
    assert planes[:, [0, 2, 3, 4, 7]].any((2, 3)).all()


@pytest.mark.parametrize("network", PLANE_NETS)
def test_codes_and_last_layer_are_the_whole_network(network):
    torch.manual_seed(2)
    net = PLANE_NETS[network](8).eval()
    pixels = torch.randn(5, 8, SIDE, SIDE)
    odds, codes = said_of_planes(net, pixels)
    with torch.no_grad():
        scores = net(pixels)
    np.testing.assert_allclose(odds, (scores[:, 1] - scores[:, 0]).numpy(), rtol=1e-5, atol=1e-6)
    assert codes.shape == (5, {"basic_cnn": 1000, "resnet": 64, "mlp": 64}[network])


def test_any_band_may_be_missing(model_plane_net):
    given = cutouts(1, 20).cutouts.copy()
    for band in range(4):
        some = given.copy()
        some[:, [band, band + 4]] = np.nan
        verdicts = model_plane_net(some)
        assert np.isfinite(verdicts.probability).all()
        assert np.isfinite(verdicts.outlier).all()
    given[0, :4] = np.nan
    assert np.isnan(model_plane_net(given).probability[0]).all()
    assert np.isfinite(model_plane_net(given).probability[1:]).all()


@pytest.mark.parametrize("planes", [2, 6, 10])
def test_another_number_of_bands_is_refused(model_plane_net, planes):
    with pytest.raises(BadInput, match=rf"have {planes} planes, but basic_cnn-1 takes 8.*multi_band") as error:
        model_plane_net(np.zeros((2, planes, 26, 26), np.float32))
    assert error.value.code == "band_count"


def test_of_many_codes_the_directions_of_most_spread_count():
    rng = np.random.default_rng(1)
    codes = (rng.normal(size=(2000, 60)) * np.linspace(0.1, 6, 60)).astype(np.float32)
    centres, whitening = locate_signal(codes, np.arange(2000) % 2)
    assert centres.shape == (2, 60)
    assert whitening.shape == (60, 48)
    spread = ((codes - centres[0]) @ whitening).std(0)
    np.testing.assert_allclose(spread, 1, atol=0.1)
    assert np.abs(whitening[:10]).max() < np.abs(whitening[50:]).max()


def test_the_best_usable_band_tells_how_bright():
    signal = np.array([[3.0, 9.0], [3.0, 1.0]], np.float32)
    np.testing.assert_array_equal(best_signal(signal, np.array([[True, False], [True, True]])), [3.0, 3.0])
    assert SIGNAL == 0


SIZE, RATIO = MOMENTS.index("size"), MOMENTS.index("size_ratio")
COUNT = len(MOMENTS)


def measured(n, bands, seed=0):
    """Features in which a small size means a star, and labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    features = rng.normal(0, 1, (n, bands, len(FEATURES))).astype(np.float32)
    features[..., SIZE] -= 3 * label[:, None]
    return features, label


def whole(features):
    there = np.ones(features.shape[:2], bool)
    return moments_of(features, there, there)


@pytest.mark.parametrize("bands", [1, 4])
def test_judges_any_number_of_bands(bands):
    features, label = measured(400, bands)
    trees = MomentTrees(fit_trees(whole(features), label, TreeFit(trees=20, least=10), 1))
    for other in (1, 3, 4, 6):
        given, truth = measured(200, other, 5)
        there = np.ones((200, other), bool)
        odds = trees.log_odds(given, there, there)
        assert odds.shape == (200,)
        assert ((odds > 0) == (truth == 1)).mean() > 0.85


def test_neither_order_nor_bands_that_are_not_there_matter():
    rng = np.random.default_rng(2)
    features, _ = measured(60, 4, 5)
    usable = rng.random((60, 4)) < 0.6
    has_psf = rng.random((60, 4)) < 0.7
    found = moments_of(features, usable, has_psf)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(moments_of(features[:, order], usable[:, order], has_psf[:, order]), found, rtol=1e-5)
    other = np.where(usable[..., None], features, 99)
    np.testing.assert_array_equal(moments_of(other, usable, has_psf), found)
    for n in np.flatnonzero(usable.any(1)):
        alone = moments_of(features[n : n + 1, usable[n]], usable[n : n + 1, usable[n]], has_psf[n : n + 1, usable[n]])
        np.testing.assert_allclose(alone[0], found[n], rtol=1e-5)
    assert not found[~usable.any(1)].any()


def test_gives_the_best_band_the_weighted_mean_the_edges_and_the_numbers():
    features, _ = measured(50, 3, 7)
    features[..., 0] = np.arcsinh([2.0, 10.0, 5.0])
    there = np.ones((50, 3), bool)
    found = moments_of(features, there, there)
    assert found.shape == (50, len(SETS) * COUNT + 2)
    best, mean, least, greatest = (found[:, n * COUNT : (n + 1) * COUNT] for n in range(4))
    np.testing.assert_array_equal(best, features[:, 1, :COUNT])
    np.testing.assert_array_equal(least, features[..., :COUNT].min(1))
    np.testing.assert_array_equal(greatest, features[..., :COUNT].max(1))
    weight = np.array([4.0, 100.0, 25.0])
    np.testing.assert_allclose(mean, np.average(features[..., :COUNT], 1, weight), rtol=1e-4, atol=1e-4)
    assert (found[:, -2:] == 3).all()


def test_what_needs_a_psf_is_zero_without_and_the_mean_leaves_it_out():
    features, _ = measured(1, 2)
    both = np.array([[True, True]])
    found = moments_of(features, both, np.array([[False, True]]))[0]
    assert found[COUNT + RATIO] == pytest.approx(features[0, 1, RATIO], rel=1e-5)
    assert found[-1] == 1
    none = moments_of(features, both, ~both)[0]
    assert not none[OF_PSF:COUNT].any()
    assert not none[COUNT + OF_PSF : 2 * COUNT].any()


def features(signal, size, ratio):
    made = np.zeros((len(signal), 2, len(FEATURES)), np.float32)
    made[..., MOMENTS.index("signal")] = signal
    made[..., MOMENTS.index("size")] = size
    made[..., MOMENTS.index("size_ratio")] = ratio
    return made


def test_takes_the_band_of_the_highest_signal_and_the_psf_where_there_is_one():
    made = features([[1.0, 3.0], [5.0, 2.0]], [[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.7, 0.8]])
    signal, size = locus(made, np.array([[True, True], [False, True]]))
    np.testing.assert_allclose(signal, [3.0, 5.0])
    np.testing.assert_allclose(size, [0.6, 0.3], rtol=1e-6)


def test_finds_the_line_between_the_classes():
    rng = np.random.default_rng(1)
    signal = rng.uniform(1, 8, 400)
    star = rng.random(400) < 0.5
    size = 0.3 - 0.05 * signal + np.where(star, -1, 1) * rng.uniform(0.05, 0.3, 400)
    cut = fit_locus(signal, size, star)
    assert (((cut.level + cut.slope * signal) > size) == star).mean() > 0.99
    assert cut.slope == pytest.approx(-0.05, abs=0.03)


def test_smaller_is_more_like_a_star():
    made = features([[3.0, 1.0]] * 3, [[-0.2, 0], [0.1, 0], [0.4, 0]], np.zeros((3, 2)))
    odds = LocusCut(0.1, 0.0).log_odds(made, np.zeros((3, 2), bool))
    assert (np.diff(odds) < 0).all()
    assert odds[0] > 0 > odds[2]


class Fixed(StarGalaxyModel):
    """Says of each object what its middle pixels say."""

    def raw(self, planes, views):
        middle = planes.image[:, 0, 13, 13]
        return Raw(np.arcsinh(middle), np.stack([middle, 0 * middle], 1), middle / 2)


def fixed(psf="without", **changed):
    known = Known(np.array([[0.0, 0.0], [10.0, 0.0]], np.float32), np.eye(2, dtype=np.float32), 4.0, 3.0)
    return Fixed(**({"known": known, "slope": 0.7, "offset": -0.2, "psf": psf, "side": 26, "card": CARD} | changed))


def test_verdicts_are_calibrated_and_given_whatever_the_number_of_objects(monkeypatch):
    given = np.random.default_rng(7).normal(0, 1, (11, 1, 26, 26)).astype(np.float32)
    given[:, 0, 13, 13] += 3 * np.arange(11)
    given[[4, 9]] = np.nan
    seen = np.isfinite(given[:, 0, 0, 0])
    middle = make_planes(given[seen], 1, 26).image[:, 0, 13, 13]
    star = 1 / (1 + np.exp(-(0.7 * np.arcsinh(middle) - 0.2)))
    outlier = np.maximum(np.minimum(abs(middle), abs(middle - 10)) / 4, 3 / np.maximum(middle / 2, 1e-3))
    for batch in (512, 4, 1):
        monkeypatch.setattr("kernels.objects.star_galaxy_model._BATCH", batch)
        found = fixed()(given)
        np.testing.assert_allclose(found.probability[seen], np.stack([star, 1 - star], 1), rtol=1e-5)
        np.testing.assert_allclose(found.outlier[seen], outlier, rtol=1e-5)
        assert np.isnan(found.probability[~seen]).all()
        assert np.isnan(found.outlier[~seen]).all()


def test_planes_are_images_and_as_many_psfs():
    with_psf, without = fixed("with"), fixed()
    for planes in (2, 4, 8):
        given = np.zeros((1, planes, 16, 16), np.float32)
        assert (with_psf.bands_of(given), without.bands_of(given)) == (planes // 2, planes)
    assert without.bands_of(np.zeros((1, 3, 16, 40), np.float64)) == 3
    for shape in ((1, 3, 16, 16), (1, 2, 16, 15), (1, 2, 15, 16), (1, 0, 16, 16), (2, 16, 16), (1, 1, 2, 16, 16)):
        with pytest.raises(BadInput):
            with_psf.bands_of(np.zeros(shape, np.float32))
    with pytest.raises(BadInput, match="complex64"):
        without.bands_of(np.zeros((1, 1, 16, 16), np.complex64))


def test_an_object_without_signal_is_as_strange_as_can_be():
    known = fixed().known
    raw = Raw(np.zeros(3), np.zeros((3, 2), np.float32), np.array([0.0, -5.0, 1e-3], np.float32))
    np.testing.assert_allclose(known.outlier(raw), 3000, rtol=1e-6)


@pytest.mark.parametrize("count", [2, 7])
def test_codes_are_whitened_by_their_widened_covariance(count):
    rng = np.random.default_rng(4)
    codes = (rng.normal(size=(300, count)) @ rng.normal(size=(count, count))).astype(np.float32)
    codes[:, 0] = 5.0  # never varies
    label = (rng.random(300) < 0.3).astype(int)
    centres, whitening = locate_signal(codes, label)
    np.testing.assert_allclose(centres, [codes[label == 0].mean(0), codes[label == 1].mean(0)], rtol=1e-5)
    away = codes - np.array([codes[label == 0].mean(0), codes[label == 1].mean(0)])[label]
    covariance = away.T @ away / 300
    covariance += 1e-3 * np.trace(covariance) / count * np.eye(count)
    np.testing.assert_allclose(whitening.T @ covariance @ whitening, np.eye(count), atol=2e-3)


def test_bands_without_signal_weigh_little_and_very_bright_ones_alike():
    features, _ = measured(1, 3, 8)
    there = np.ones((1, 3), bool)

    def mean(signal):
        features[0, :, 0] = signal
        return moments_of(features, there, there)[0, COUNT : 2 * COUNT]

    plain = features[0, :, 1:COUNT].copy()
    np.testing.assert_allclose(mean([0.0, -3.0, 0.0])[1:], plain.mean(0), rtol=1e-5)
    np.testing.assert_allclose(mean([13.0, 12.0, 40.0])[1:], plain.mean(0), rtol=1e-4)
    weight = np.array([1e-3, 0.01 + 1e-3, 0.04 + 1e-3])
    expected = np.average(plain, 0, weight)
    np.testing.assert_allclose(mean([-1.0, np.arcsinh(0.1), np.arcsinh(0.2)])[1:], expected, rtol=1e-4, atol=1e-5)
    weight = np.sinh([11.0, 11.5, 12.0]) ** 2
    np.testing.assert_allclose(mean([11.0, 11.5, 12.0])[1:], np.average(plain, 0, weight), rtol=1e-4, atol=1e-5)


def best_cut(signal, size, star):
    """Highest number of right verdicts on the grid of slopes, over all levels."""
    most = 0
    for slope in np.linspace(-0.3, 0.3, 61):
        height = size - slope * signal
        levels = [*(height - 1e-9), height.max() + 1]
        most = max(most, max(int(((height < level) == star).sum()) for level in levels))
    return most


@pytest.mark.parametrize("seed", range(6))
def test_no_cut_of_the_grid_is_better_than_the_one_found(seed):
    rng = np.random.default_rng(seed)
    signal, star = rng.uniform(0, 8, 30), rng.random(30) < 0.5
    size = 0.1 * rng.normal(size=30) - 0.2 * star + rng.choice([-0.3, 0.1, 0.3]) * signal
    cut = fit_locus(signal, size, star)
    assert ((size < cut.level + cut.slope * signal) == star).sum() == best_cut(signal, size, star)
    heights = np.sort(size - cut.slope * signal)
    k = np.searchsorted(heights, cut.level)
    if 0 < k < 30:
        assert cut.level == pytest.approx((heights[k - 1] + heights[k]) / 2)


def test_one_class_alone_lies_on_one_side_of_the_cut():
    signal, size = np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.3, 0.2])
    heights = size + 0.3 * signal
    for star, level in ((True, heights.max() + 0.01), (False, heights.min() - 0.01)):
        assert fit_locus(signal, size, np.full(3, star)) == pytest.approx((level, -0.3))


def test_a_cut_falls_or_rises_with_the_signal():
    made = features([[3.0, 1.0], [2.0, 6.0]], [[0.2, 9.0], [9.0, 0.4]], np.zeros((2, 2)))
    odds = LocusCut(0.1, -0.05).log_odds(made, np.zeros((2, 2), bool))
    np.testing.assert_allclose(odds, [0.1 - 0.15 - 0.2, 0.1 - 0.3 - 0.4], rtol=1e-5)


def test_a_cut_that_is_right_once_more_than_none_at_all_is_taken():
    cut = fit_locus(np.zeros(2), np.array([1.0, 2.0]), np.array([True, False]))
    assert 1.0 < cut.level < 2.0
