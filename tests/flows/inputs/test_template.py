import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs import template as module
from flows.inputs import template_choice
from flows.inputs.fits_layout import mapping_for
from flows.inputs.ingest import prepare
from flows.inputs.source import REFERENCE, Source
from flows.inputs.sources import list_sources
from flows.inputs.template import LEAST_OVERLAP, WORST_RESIDUAL, Reference
from flows.inputs.template_choice import ImageArea, attach_templates, choose_template, image_area
from flows.inputs.wcs_cards import same_grid
from flows.pipeline.search_array import ArrayFacts, _raw
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.subtraction.sfft import Subtracted
from kernels.trails.trail_model import trail_image
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import KeywordMapping
from schemas.pixels import UNUSABLE, MaskPlane
from schemas.settings import Settings
from tests.support.cards import as_text, elsewise, gnomonic
from tests.support.cli import nightstride

installed = pytest.mark.skipif(
    find_spec("sfft") is None or find_spec("reproject") is None, reason="the extra subtract is not installed"
)
SHAPE, NEW = (260, 240), (120.0, 130.0)
SKY = np.random.default_rng(3).uniform((-40, -40), (280, 300), (70, 2))
LIGHT = np.random.default_rng(4).uniform(2e3, 5e4, 70)
MAPPING = {"saturation": {"keyword": "SATURATE"}, "checksum": "ignore"}
SETTINGS = Settings(fits=KeywordMapping.model_validate(MAPPING))


def wcs(dx=0.0, dy=0.0, turned=0.0, ra=150.0):
    """Pixels of 0.5 arcsec, shifted and turned against those of the science image."""
    return gnomonic([ra, 20.0], [121 + dx, 131 + dy], 0.5, turned)


def write(path, fwhm, grid, *, new=False, seed=1, band="r", scale=1.0, sigma=2.0):
    x, y = grid.all_world2pix(*wcs().all_pix2world(*SKY.T, 0), 0)
    image = np.random.default_rng(seed).normal(100, sigma, SHAPE)
    for at_x, at_y, flux in [*zip(x, y, LIGHT, strict=True), *([(*NEW, 8e3)] if new else [])]:
        if -20 < at_x < SHAPE[1] + 20 and -20 < at_y < SHAPE[0] + 20:
            image += scale * flux * trail_image(SHAPE, at_x, at_y, 0.0, 0.0, moffat_mixture(fwhm, 3.0))
    header = grid.to_header()
    header.update({"DATE-OBS": "2026-03-04T05:06:07", "EXPTIME": 30.0, "FILTER": band, "SATURATE": 50_000.0})
    fits.writeto(path, image.astype(np.float32), header, overwrite=True)
    return str(path)


@pytest.fixture
def science(tmp_path):
    return write(tmp_path / "science.fits", 3.2, wcs(), new=True)


@installed
@pytest.mark.parametrize("grid", [wcs(), wcs(7.4, -3.3, 4.0)], ids=["same pixels", "shifted and turned"])
def test_a_template_is_put_on_the_pixels_and_subtracted(tmp_path, science, grid):
    template = write(tmp_path / "template.fits", 2.4, grid, scale=0.5, sigma=0.3, seed=2)
    (source,) = list_sources([science], SETTINGS, template)
    info, planes = prepare(source, SETTINGS)
    assert "subtracted" in info.flags
    assert info.planes == ("science", "template")
    assert info.subtraction_residual < 0.05
    assert info.psf.fwhm_px == pytest.approx(3.2, abs=0.2)
    usable = (planes["mask"] & np.uint16(UNUSABLE)) == 0
    assert usable.mean() > 0.75
    signal = np.where(usable, planes["difference"] - info.background, 0) / info.noise
    y, x = np.unravel_index(signal.argmax(), SHAPE)
    assert np.hypot(x - NEW[0], y - NEW[1]) < 1.5
    far = np.hypot(*np.meshgrid(np.arange(SHAPE[1]) - NEW[0], np.arange(SHAPE[0]) - NEW[1])) > 12
    light = (planes["science"] - 100) / info.noise
    assert (np.abs(signal[far]) < 8 + 0.06 * np.abs(light[far])).mean() > 0.9999
    np.testing.assert_array_equal(planes["science"], fits.getdata(science))


@pytest.mark.parametrize("missing", ["sfft", "reproject"])
def test_without_a_package_nothing_is_searched_or_quarantined_and_the_extra_is_named(
    tmp_path, science, monkeypatch, missing
):
    there = {"sfft", "reproject"} - {missing}
    monkeypatch.setattr("flows.inputs.template.find_spec", lambda name: name in there or None)
    template = write(tmp_path / "template.fits", 2.4, wcs(7.4), seed=2)
    ended = nightstride("run", science, "--template", template, "--out", tmp_path / "out", "--json", cwd=tmp_path)
    error = json.loads(ended.stdout.splitlines()[-1])["error"]
    assert (ended.code, error["code"], error["remedy"]) == (2, "no_subtraction", "pip install 'nightstride[subtract]'.")
    assert f"the package {missing} is not installed" in error["problem"]
    assert not list((tmp_path / "out").glob("quarantine/*"))
    (source,) = list_sources([science], SETTINGS, template)
    with pytest.raises(Misconfigured) as caught:  # in a worker that lacks what the command has
        prepare(source, SETTINGS)
    assert caught.value.code == "no_subtraction"


@installed
def test_what_does_not_fit_is_refused(tmp_path, science):
    def refusal(path):
        (source,) = list_sources([science], SETTINGS, path)
        with pytest.raises(BadInput) as caught:
            prepare(source, SETTINGS)
        return caught.value.code

    assert refusal(write(tmp_path / "away.fits", 2.4, wcs(ra=151.0))) == "no_overlap"
    plain = tmp_path / "plain.fits"
    header = fits.getheader(science)
    for card in [name for name in header if name.startswith(("CTYPE", "CRVAL", "CRPIX", "CD", "PC", "CUNIT"))]:
        del header[card]
    fits.writeto(plain, fits.getdata(science)[:-10], header)
    assert refusal(str(plain)) == "not_aligned"
    fits.writeto(plain, np.ascontiguousarray(fits.getdata(science)[::-1]), header, overwrite=True)
    assert refusal(str(plain)) == "bad_subtraction"


def test_of_several_the_one_that_covers_most_in_the_band_is_taken(tmp_path, science):
    folder = tmp_path / "templates"
    folder.mkdir()
    names = {
        "a_far": write(folder / "a_far.fits", 2.4, wcs(180.0)),
        "b_near": write(folder / "b_near.fits", 2.4, wcs(20.0)),
        "c_green": write(folder / "c_green.fits", 2.4, wcs(), band="g"),
    }
    (source,) = list_sources([science], SETTINGS, str(folder))
    assert dict(source.siblings) == {"reference": names["b_near"]}
    blue = write(tmp_path / "blue.fits", 3.0, wcs(), band="u")
    (source,) = list_sources([blue], SETTINGS, str(folder))
    assert source.refusal.code == "no_template"
    broken = folder / "d_broken.fits"
    broken.write_bytes(b"SIMPLE  =                    T" + b" " * 2850)
    with pytest.raises(Misconfigured) as caught:
        list_sources([science], SETTINGS, str(folder))
    assert caught.value.code == "bad_template"


@pytest.mark.parametrize("made", [{}, {"FIELDID": 632, "CCDID": 5, "QID": 1, "FILTERID": 2}], ids=["coadd", "ZTF"])
def test_a_template_has_neither_a_time_nor_an_exposure(tmp_path, science, made):
    header = wcs(20.0).to_header()
    header.update({"FILTER": "r"} | made)
    fits.writeto(tmp_path / "coadd.fits", np.zeros(SHAPE, np.float32), header)
    area = image_area(str(tmp_path / "coadd.fits"), SETTINGS, template=True)
    assert (area.band, area.shape) == ("r", SHAPE)
    assert choose_template(image_area(science, SETTINGS), [area]) == area.uri


def test_settings_of_science_images_need_not_fit_the_template(tmp_path, science, monkeypatch):
    """They name extensions, a saturation and a zero point that the template has not; those that it has are used."""
    seen = Subtraction(monkeypatch).seen
    pixels, header = fits.getdata(science), fits.getheader(science)
    several, bad = tmp_path / "several.fits", np.zeros(SHAPE, np.int16)
    bad[40, 50] = 1
    layers = [fits.ImageHDU(pixels, header, name="SCI"), fits.ImageHDU(bad, name="MSK")]
    layers[0].header["ZP"] = 26.0
    fits.HDUList([fits.PrimaryHDU(), *layers]).writeto(several)
    plain = tmp_path / "plain.fits"
    fits.writeto(plain, pixels + 1, wcs().to_header())
    layers[0].data = pixels + 1
    fits.HDUList([fits.PrimaryHDU(), *layers]).writeto(tmp_path / "coadd.fits")
    named = {"extension": "SCI", "planes": {"mask": "MSK"}, "zero_point": {"keyword": "ZP"}}
    settings = Settings(fits=KeywordMapping.model_validate(MAPPING | named))
    for path, masked in ((plain, 0), (tmp_path / "coadd.fits", 1)):
        (source,) = list_sources([str(several)], settings, str(path))
        prepare(source, settings)
        assert (~seen[-1][1]).sum() == masked + (0 if path == plain else (pixels + 1 >= 50_000).sum())
    with pytest.raises(BadInput) as caught:
        image_area(str(plain), settings)
    assert caught.value.code == "missing_extension"


def test_a_template_is_chosen_whatever_the_frame_and_the_order_of_its_coordinates():
    plain = wcs()
    galactic, swapped = elsewise(plain)  # the first is turned, too
    for one in (plain, galactic, swapped):
        science = ImageArea("s.fits", as_text(one), SHAPE, "r")
        for other in (plain, galactic, swapped):
            assert choose_template(science, [ImageArea("t.fits", as_text(other), SHAPE, "r")]) == "t.fits"
            assert same_grid(as_text(one), as_text(other), SHAPE) == ((one is galactic) == (other is galactic))


def test_another_mask_stands_for_the_one_that_is_named():
    layers = [fits.PrimaryHDU(), fits.ImageHDU(name="SCI"), fits.ImageHDU(name="BPM"), fits.ImageHDU(name="WGT")]
    headers = [layer.header for layer in layers]
    named = KeywordMapping.model_validate(MAPPING | {"extension": "SCI", "planes": {"mask": "MSK"}})
    found = mapping_for(headers, named)
    assert (found.extension, found.planes) == ("SCI", {"mask": "BPM"})
    assert mapping_for(headers[:2], named).planes == {}
    assert mapping_for([*headers, fits.ImageHDU(name="MASK").header], named).planes == {"mask": "MSK"}  # to be refused


def test_why_no_template_fits_is_said():
    there, cards = ImageArea("a.fits", wcs().to_header().tostring(sep="\n"), SHAPE, "r"), wcs(ra=151.0).to_header()
    away = ImageArea("s.fits", cards.tostring(sep="\n"), SHAPE, "r")
    for one, said in (
        (replace(away, wcs_header=None), "no WCS"),
        (replace(away, band="R"), "they are of r."),
        (away, "covers 20%"),
    ):
        error = template_choice._none_fits(one, [there])
        assert (error.code, said in error.problem) == ("no_template", True)


def test_coverage_is_that_of_the_sky(tmp_path, science):
    here = image_area(science, SETTINGS)
    cards = wcs(200.0).to_header().tostring(sep="\n")
    half = ImageArea("half", cards, SHAPE, "r")
    assert choose_template(here, [half]) is None
    larger = ImageArea("larger", cards, (SHAPE[0], SHAPE[1] + 400), "r")
    assert choose_template(here, [half, larger]) == "larger"
    assert choose_template(ImageArea("none", None, SHAPE, "r"), [here]) is None


@installed
def test_real_decam_images_as_the_method_s_authors_subtract_them(tmp_path):
    data = os.environ.get("NIGHTSTRIDE_DATA")
    if not data:
        pytest.skip("NIGHTSTRIDE_DATA is not set: no real images")
    folder = Path(data) / "01_fits_streaks/sfft_decam/4check"
    given = fits.getdata(folder / "FinalDifference.fits").astype(np.float32)
    names = [str(folder / f"Stack-DEC-OBS{n}.fits") for n in ("04", "18")]
    (source,) = list_sources([names[0]], SETTINGS, names[1])
    info, planes = prepare(source, SETTINGS)
    usable = (planes["mask"] & np.uint16(UNUSABLE)) == 0

    def spread(values):
        return 1.4826 * np.median(np.abs(values - np.median(values)))

    assert spread(planes["difference"][usable]) < 1.03 * spread(given)
    assert spread((planes["difference"] - given)[usable]) < 0.25 * spread(given)
    assert info.subtraction_residual < 0.02


def test_a_template_covers_what_lies_on_its_first_and_last_pixels(science):
    """The outermost places that are asked for lie half a pixel within the first template, and far within the second."""
    here = image_area(science, SETTINGS)
    tight = ImageArea("a", wcs(0.5, 0.5).to_header().tostring(sep="\n"), (SHAPE[0] + 1, SHAPE[1] + 1), "r")
    wide = ImageArea("b", wcs(9.0, 9.0).to_header().tostring(sep="\n"), (SHAPE[0] + 20, SHAPE[1] + 20), "r")
    assert choose_template(here, [wide, tight]) == "a"
    for narrow in ((SHAPE[0], SHAPE[1] + 1), (SHAPE[0] + 1, SHAPE[1])):
        assert choose_template(here, [wide, replace(tight, shape=narrow)]) == "b"


@pytest.mark.parametrize(("beta", "kept"), [(0.5, 1.1), (1.5, 1.5), (3.0, 3.0), (200.0, 100.0)])
def test_what_a_subtraction_finds_becomes_the_exposure(monkeypatch, beta, kept):
    """The package that subtracts is an extra: here something else gives what it would."""
    science, mask = np.random.default_rng(1).normal(100, 2, SHAPE).astype(np.float32), np.zeros(SHAPE, np.uint16)
    mask[0, 0], unusable = UNUSABLE, np.zeros(SHAPE, bool)
    unusable[0, :3] = True
    made = Subtracted(science - 100, unusable, (2.5, beta), 2.0, 0.01, 20)
    monkeypatch.setattr(module, "subtract_template", lambda *_: made)
    monkeypatch.setattr(module, "require_subtraction", lambda: None)
    raw = _raw({"difference": science, "mask": mask}, ArrayFacts(mjd_tai=61000.5, zero_point=25.0))
    found = module.subtracted(raw, Reference(science / 2, np.ones(SHAPE, bool), None, "template.fits"))
    assert (found.psf.fwhm_px, found.psf.beta, found.psf.source) == (2.5, kept, "science")
    assert (found.flags, found.subtraction_residual) == (("no_wcs", "subtracted"), 0.01)
    np.testing.assert_array_equal(found.planes["template"], science)  # in the unit of the science image
    np.testing.assert_array_equal(found.planes["difference"], science - 100)
    assert found.planes["mask"][0, :4].tolist() == [UNUSABLE, MaskPlane.NO_DATA, MaskPlane.NO_DATA, 0]


class Subtraction:
    """Stands for the package that subtracts, which is an extra."""

    def __init__(self, monkeypatch, **made):
        fields = {"unusable": np.zeros(SHAPE, bool), "psf": (2.5, 3.0), "scale": 2.0, "residual": 0.01, "stars": 20}
        self.fields, self.seen = fields | made, []
        monkeypatch.setattr(module, "subtract_template", self)
        monkeypatch.setattr(module, "require_subtraction", lambda: None)

    def __call__(self, science, template, usable):
        self.seen.append(usable)
        return Subtracted(science - 100, **self.fields)


def images(usable=1.0, shape=SHAPE, **facts):
    """A science image, and a template of which the first pixels are not usable."""
    science, seen = np.random.default_rng(1).normal(100, 2, SHAPE).astype(np.float32), np.ones(shape, bool)
    seen.ravel()[: round((1 - usable) * seen.size)] = False
    planes = {"difference": science, "mask": np.zeros(SHAPE, np.uint16)}
    raw = _raw(planes, ArrayFacts(mjd_tai=61000.5, zero_point=25.0, **facts))
    return raw, Reference(np.full(shape, 50, np.float32), seen, None, "template.fits")


@pytest.mark.parametrize(
    ("given", "made", "code"),
    [
        ({"usable": LEAST_OVERLAP}, {}, None),
        ({"usable": LEAST_OVERLAP - 0.001}, {}, "no_overlap"),
        ({"shape": (SHAPE[0] + 1, SHAPE[1])}, {}, "not_aligned"),
        ({"shape": (SHAPE[0], SHAPE[1] - 1)}, {}, "not_aligned"),
        ({}, {"residual": WORST_RESIDUAL}, None),
        ({}, {"residual": WORST_RESIDUAL + 0.001}, "bad_subtraction"),
        ({}, {"residual": np.nan}, "bad_subtraction"),
        ({}, {"stars": 1}, None),
        ({}, {"stars": 0}, "bad_subtraction"),
    ],
)
def test_a_subtraction_is_used_if_it_is_good(monkeypatch, given, made, code):
    Subtraction(monkeypatch, **made)
    if code is None:
        assert "subtracted" in module.subtracted(*images(**given)).flags
        return
    with pytest.raises(BadInput, match="less template") as caught:
        module.subtracted(*images(**given))
    assert caught.value.code == code


@pytest.mark.parametrize(("band", "told"), [("r", False), ("i", True), (None, False)])
def test_a_template_of_another_band_is_told(tmp_path, science, monkeypatch, band, told):
    Subtraction(monkeypatch)
    template = write(tmp_path / "template.fits", 3.2, wcs(), band=band)
    (source,) = list_sources([science], SETTINGS, template)
    assert ("template_band" in prepare(source, SETTINGS)[0].flags) is told


def test_an_image_is_not_its_own_template(tmp_path, monkeypatch, science):
    other = write(tmp_path / "other.fits", 3.2, wcs())
    found = attach_templates([Source(science), Source(other)], [science, other], SETTINGS)
    assert [dict(one.siblings)[REFERENCE] for one in found] == [other, science]
    Subtraction(monkeypatch)
    raw, reference = images()
    with pytest.raises(BadInput, match="same pixels") as caught:
        module.subtracted(raw, replace(reference, pixels=raw.planes["difference"].copy()))
    assert caught.value.code == "bad_subtraction"


def test_a_large_image_is_not_subtracted(monkeypatch):
    Subtraction(monkeypatch)
    raw, reference = images()
    for large in (SHAPE, reference.pixels[:-1].shape):
        monkeypatch.setattr(module, "is_large", lambda shape, large=large: shape == large)
        with pytest.raises(BadInput) as caught:
            module.subtracted(raw, replace(reference, pixels=reference.pixels[:-1]))
        assert caught.value.code == "too_large"


def test_saturated_pixels_of_the_science_image_are_not_compared(monkeypatch):
    subtraction = Subtraction(monkeypatch)
    for saturation in (None, 103.0):
        raw, reference = images(saturation=saturation)
        raw.planes["difference"][0, :2], raw.planes["mask"][0, 5] = (103, 102.9), UNUSABLE
        module.subtracted(raw, reference)
        usable = subtraction.seen[-1][0][0]
        assert usable[:2].tolist() == [saturation is None, True]
        assert not usable[5]
    assert 0.8 < subtraction.seen[-1][0].mean() < 0.99
    assert subtraction.seen[0][0].sum() == np.prod(SHAPE) - 1


def test_what_is_refused_already_is_given_no_template():
    gone = Source("/gone/")
    refused = Source("/x.fits", refusal=BadInput("not_fits", "/x.fits", "is none.", "leave it out."))
    area = ImageArea("a.fits", None, SHAPE, "r")
    assert [template_choice._chosen(one, [area], SETTINGS) for one in (gone, refused)] == [gone, refused]


def test_no_image_is_its_own_template(science):
    source, here = Source(science), image_area(science, SETTINGS)
    (alone,) = template_choice.attach_templates([source], [science], SETTINGS)
    assert (alone.refusal.code, alone.siblings) == ("no_template", ())
    found = template_choice._chosen(source, [here, replace(here, uri="other.fits")], SETTINGS)
    assert found.siblings == (("reference", "other.fits"),)
