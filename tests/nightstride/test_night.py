import base64
import io
import json
import re
import shutil
import subprocess
import sys
from datetime import date
from importlib.metadata import version

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from PIL import Image as Picture

import nightstride as ns
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore, write_exposure
from nightstride.pictures import SHOWN_PX
from nightstride.sky_picture import CERTAIN
from schemas.exposure import ExposureKey
from schemas.pixels import UNUSABLE
from tests.flows.results.page.conftest import NIGHT
from tests.support.export import NIGHTS, publish
from tests.support.forced import SETTINGS, plain_info, plain_planes, record_of

pytest_plugins = ("tests.support.night_fixture", "tests.support.linked_fixture", "tests.support.s3_fixture")


def test_it_is_imported_without_what_takes_long():
    code = "import nightstride, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"astropy", "torch", "numba", "scipy", "zarr", "sqlalchemy", "stages", "matplotlib", "prefect", "typer"}
    assert heavy & set(run.stdout.split()) == set()
    assert issubclass(ns.PlaneImage, CCDData)
    assert ns.__version__ == version("nightstride")
    assert all(hasattr(ns, name) for name in ns.__all__)
    assert dir(ns) == sorted(ns.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ns.nothing


def test_nights_are_chosen_by_label_list_or_slice(tmp_path):
    publish(tmp_path)
    first, second = NIGHTS
    assert ns.open(tmp_path).nights == ns.open(tmp_path, slice(first, None)).nights == NIGHTS
    assert ns.open(str(tmp_path), second).nights == ns.open(tmp_path, [int(second)]).nights == (second,)
    assert ns.open(tmp_path)[first:first].nights == ns.open(tmp_path, slice(None, "20260101")).nights == (first,)
    assert ns.open(tmp_path)[np.int64(second)].nights == (second,)
    assert len(ns.open(tmp_path)) == 2
    assert len(ns.open(tmp_path, second).objects()) == 30


def test_labels_dates_and_nights_are_in_it_or_not(tmp_path):
    publish(tmp_path)
    night = ns.open(tmp_path)
    for one in (NIGHTS[0], int(NIGHTS[0]), np.int64(NIGHTS[1]), date.fromisoformat(NIGHTS[1]), night[NIGHTS[0]]):
        assert one in night
    for other in ("20260103", 3, None, 1.5, ["20260101"], "2026"):
        assert other not in night
    assert night[NIGHTS[0]] not in night[NIGHTS[1]]


def test_it_does_not_depend_on_the_working_folder_later(tmp_path, monkeypatch):
    publish(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    night = ns.open("out")
    rows = len(night.objects())
    monkeypatch.chdir("/")
    assert len(night.objects()) == len(ns.open(tmp_path / "out").objects()) == rows > 0


@pytest.mark.parametrize(
    ("nights", "says"),
    [
        ("20260103", "write '20260102'"),
        (slice("2027", None), "from 2027 to the last"),
        (slice(None, "2020"), "from the first to 2020"),
        (slice(None, None, 2), "takes no step in a slice of nights: 2"),
    ],
)
def test_a_night_that_is_not_there_is_refused(tmp_path, nights, says):
    publish(tmp_path)
    with pytest.raises(ns.Misconfigured, match=says):
        ns.open(tmp_path, nights)
    with pytest.raises(ns.Misconfigured, match="is not an output folder"):
        ns.open(tmp_path / "nowhere")
    with pytest.raises(ns.Misconfigured, match="write 'object'"):
        ns.open(tmp_path).dataset("objct")


@pytest.mark.parametrize("chosen", [1.5, None])
def test_what_is_no_night_is_refused(tmp_path, chosen):
    publish(tmp_path)
    with pytest.raises(ns.Misconfigured, match=rf"night {chosen}: is no label \(YYYYMMDD\), nor a list or a slice"):
        _ = ns.open(tmp_path)[chosen]


@pytest.mark.parametrize("name", [None, 5, ["object"]])
def test_what_is_no_name_of_a_dataset_is_refused(tmp_path, name):
    publish(tmp_path)
    with pytest.raises(ns.Misconfigured, match="is not known here"):
        ns.open(tmp_path).dataset(name)


def test_a_bucket_is_opened_like_a_folder(bucket, s3, monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_STORE__ENDPOINT", s3.endpoint)
    info = plain_info()
    write_exposure(tile_path(bucket, info), info, plain_planes(), SETTINGS.tiles, "d")
    Ledger(bucket).put(record_of(info))
    publish(bucket)
    night = ns.open(str(bucket))
    assert night.nights == NIGHTS
    assert len(night.objects()) == 60
    assert night.exposures(["visit", "noise"]).to_arrow().to_pylist() == [{"visit": 7, "noise": info.noise}]
    assert night.image(7, 0, section=np.s_[:9, :8]).shape == (9, 8)


def test_opening_and_looking_write_nothing(linked_folder):
    def state():
        return {path: path.stat().st_mtime_ns for path in (linked_folder / "out").rglob("*")}

    before, night = state(), ns.open(linked_folder / "out")
    _ = repr(night), night._repr_html_(), night.exposures.to_arrow(), night.detections().to_arrow(), night.release
    night.image(100, 5)
    assert state() == before


def test_a_notebook_shows_the_detections_on_the_sky(linked):
    night, _ = linked
    shown, rows = night._repr_html_(), night.detections().to_arrow()
    placed = rows.filter(rows["ra"].is_valid())
    assert f"<p>{len(placed)} detections on the sky" in shown
    paths = re.findall(r'<path class="dots (\w+)" d="([^"]*)"', shown)
    sure = sum(one >= CERTAIN for one in placed["reliability"].to_pylist())
    assert {kind: d.count("M") for kind, d in paths} == {
        kind: count for kind, count in (("rest", len(placed) - sure), ("sure", sure)) if count
    }


def test_a_damaged_note_of_a_release_does_not_stop_its_words(linked_folder, tmp_path):
    shutil.copytree(linked_folder / "out", tmp_path / "dr")
    (tmp_path / "dr" / "release.json").write_text("{")
    night = ns.open(tmp_path / "dr")
    assert "release, of which release.json is damaged, " in repr(night)
    assert "release.json is damaged" in night._repr_html_()
    with pytest.raises(ns.BadInput, match="is not JSON"):
        _ = night.release


@pytest.mark.parametrize("patches", ["12*", ["nope"], [5, 12], [(5, 12, 3)], [("5", "12")], [(5.0, 12)]])
def test_what_is_no_list_of_patches_is_refused(tmp_path, patches):
    publish(tmp_path)
    with pytest.raises(ns.Misconfigured, match=r"must be a list of \(order, pixel\)") as caught:
        ns.open(tmp_path).objects(patches=patches)
    assert caught.value.code == "bad_patch"


def test_an_image_is_what_is_stored(linked):
    night, _ = linked
    image = night.image(100, 5)
    store = TileStore.open(tile_path(night.out, ExposureKey(night=NIGHT, visit=100, detector=5)))
    np.testing.assert_array_equal(image.data, store.read_all("difference"))
    np.testing.assert_array_equal(image.flags, store.read_all("mask"))
    unusable = (store.read_all("mask") & np.uint16(UNUSABLE)) != 0
    np.testing.assert_array_equal(image.mask, unusable | ~np.isfinite(image.data))
    assert (image.unit, image.meta["visit"], image.meta["band"]) == (u.adu, 100, "r")
    assert image.uncertainty.array[0, 0] == np.float32(image.meta["noise"])
    assert isinstance(image, ns.PlaneImage)


def test_a_section_has_the_wcs_of_the_whole(linked):
    night, _ = linked
    whole, part = night.image(100, 5), night.image(100, 5, section=np.s_[30:90, 200:])
    np.testing.assert_array_equal(part.data, whole.data[30:90, 200:])
    there = whole.wcs.pixel_to_world(210.0, 40.0)
    assert part.wcs.pixel_to_world(10.0, 10.0).separation(there) < 1e-9 * u.deg
    for one in (whole, part, whole[30:50, 200:240]):
        (ny, nx), corner = one.shape, SkyCoord(*one.wcs.calc_footprint()[2], unit="deg")
        assert corner.separation(one.wcs.pixel_to_world(nx - 1, ny - 1)) < 1e-9 * u.deg
    assert (part.meta["y0"], part.meta["x0"]) == (30, 200)


def test_distortion_moves_with_the_section(tmp_path):
    header = fits.Header.fromstring(plain_info().wcs_header, sep="\n")
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_1_1": -2e-5})
    info = plain_info(wcs_header=header.tostring(sep="\n", endcard=False, padding=False))
    write_exposure(tile_path(tmp_path, info), info, plain_planes(), SETTINGS.tiles, "d")
    Ledger(tmp_path).put(record_of(info))
    night = ns.open(tmp_path)
    whole, part = night.image(7, 0), night.image(7, 0, section=np.s_[100:, 20:])
    there = SkyCoord(*whole.wcs.all_pix2world(260.0, 250.0, 0), unit="deg")
    assert SkyCoord(*part.wcs.all_pix2world(240.0, 150.0, 0), unit="deg").separation(there) < 1e-6 * u.arcsec


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({"plane": "science"}, "has no plane 'science'. To fix, choose one of difference, mask"),
        ({"section": np.s_[5:5, :]}, "has no pixel of an axis of 420"),
        ({"section": np.s_[::2, :]}, "is not a range of pixels"),
        ({"section": (slice(0, 5),)}, "does not have a range of rows and one of columns"),
        ({"section": np.s_[0:5]}, "does not have a range of rows and one of columns"),
        ({"detector": 6}, "holds no pixels of visit 100, detector 6"),
        ({"detector": 1000}, "holds no pixels of visit 100, detector 1000"),
        ({"visit": -1}, "holds no pixels of visit -1"),
        ({"visit": "x"}, "visit: is 'x', must be a whole number"),
        ({"visit": 100.7}, "visit: is 100.7, must be a whole number"),
        ({"detector": None}, "detector: is None, must be a whole number"),
    ],
)
def test_pixels_that_are_not_there_are_refused(linked, ask, says):
    with pytest.raises(ns.Misconfigured, match=says):
        linked[0].image(**{"visit": 100, "detector": 5, **ask})


def test_a_large_image_is_read_by_sections(tmp_path, monkeypatch):
    info = plain_info()
    write_exposure(tile_path(tmp_path, info), info, plain_planes(), SETTINGS.tiles, "d")
    Ledger(tmp_path).put(record_of(info))
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    night = ns.open(tmp_path)
    with pytest.raises(ns.Misconfigured, match="name a section"):
        night.image(7, 0)
    assert night.image(7, 0, section=np.s_[:20, :30]).shape == (20, 30)


def test_a_cutout_has_its_detection_in_the_middle(linked):
    night, (_, mover, _) = linked
    row = night.detections(where=f"diaSourceId == {mover[0]}").to_arrow().to_pylist()[0]
    cutout = night.cutout(mover[0], size=31)
    assert cutout.detection["diaSourceId"] == mover[0]
    y0, x0 = cutout.difference.meta["y0"], cutout.difference.meta["x0"]
    assert abs(row["x"] - x0 - 15) <= 0.5
    assert abs(row["y"] - y0 - 15) <= 0.5
    assert cutout.difference.shape == (31, 31)
    assert cutout.science is cutout.template is None
    for size in (0, -3, 100_000):
        with pytest.raises(ns.Misconfigured, match=f"size {size}: is not 1 to 6144 px"):
            night.cutout(mover[0], size)
    for size in ("a", 5.5):
        with pytest.raises(ns.Misconfigured, match=f"size: is {size!r}, must be a whole number"):
            night.cutout(mover[0], size)
    for nobody in (12345, -1, 10**30):
        for ask in (night.cutout, night.explain, night.lightcurve):
            with pytest.raises(ns.Misconfigured, match=f"holds no detection {nobody}"):
                ask(nobody)


def test_beyond_the_border_a_cutout_is_blank(linked):
    night, _ = linked
    found = night.detections(["diaSourceId", "y"]).to_pandas().sort_values("y").iloc[0]
    cutout = night.cutout(int(found["diaSourceId"]), size=2 * int(found["y"]) + 21)
    rows = -cutout.difference.meta["y0"]
    assert rows > 0
    assert np.isnan(cutout.difference.data[:rows]).all()
    assert cutout.difference.mask[:rows].all()


def test_pictures_are_png(linked):
    night, (_, mover, _) = linked
    for shown, size in ((night.image(100, 5), (380, 420)), (night.cutout(mover[0], 41), (123, 123))):
        with Picture.open(io.BytesIO(shown._repr_png_())) as picture:
            assert (picture.format, picture.size) == ("PNG", size)
            assert len(picture.getcolors()) > 20


def test_an_explanation_is_shown_with_its_pixels_as_long_as_they_are_kept(linked, tmp_path):
    out, mover = shutil.copytree(linked[0].out, tmp_path / "out"), linked[1][1]
    found = ns.open(out).explain(mover[0])
    shown = found._repr_html_()
    uri = re.search(r'<img alt="pixels of \d+[^"]*" src="data:image/png;base64,([^"]+)"', shown)[1]
    with Picture.open(io.BytesIO(base64.b64decode(uri))) as picture:
        assert max(picture.size) <= SHOWN_PX
        assert len(picture.getcolors()) > 20
    assert len(shown) < 100_000
    assert "picture" not in json.loads(json.dumps(found.values(), default=str))
    shutil.rmtree(out / "tiles")
    assert found._repr_html_().startswith("<div><table")


def test_a_light_curve_is_of_what_was_seen_more_than_once(linked):
    night, (star, mover, _) = linked
    curve = night.lightcurve(star[1])
    assert (curve.meta["of"], curve.meta["id"]) == ("object", star[0])
    assert curve["diaSourceId"].tolist() == star
    assert curve["offset"].unit == u.arcsec
    moved = night.lightcurve(mover[2])
    assert (moved.meta["of"], moved.meta["id"]) == ("tracklet", mover[0])
    assert moved["diaSourceId"].tolist() == mover
    assert moved["time"].scale == "tai"
    assert (np.diff(moved["time"].mjd) > 0).all()
    assert {"band", "flux", "fluxErr", "visit", "detector", "night"} <= set(moved.colnames)
    assert len(night.lightcurve(mover[2], of="detection")) == 1
    with pytest.raises(ns.Misconfigured, match="knows no object"):
        night.lightcurve(mover[0], of="object")
    with pytest.raises(ns.Misconfigured, match="holds no detection 5 "):
        night.lightcurve(5)
    assert len(night.lightcurve(str(star[1]))) == len(curve)
    for identity in ("abc", float(star[1]), None, np.nan):
        for method in (night.lightcurve, night.cutout, night.explain):
            with pytest.raises(ns.Misconfigured, match="is no id"):
                method(identity)


def test_a_night_of_an_older_version_is_looked_at_too(linked, tmp_path):
    out, mover = shutil.copytree(linked[0].out, tmp_path / "out"), linked[1][1]
    for path in (out / "catalogs" / "dia_source").rglob("*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["pArtefact", "trailFluxErr"]), path)
    night = ns.open(out)
    assert night.detections().to_arrow()["pArtefact"].null_count == len(night.detections()) == 15
    assert night.cutout(mover[0]).detection["diaSourceId"] == mover[0]
    assert np.isnan(night.lightcurve(mover[0])["fluxErr"]).all()
    found = night.explain(mover[0])
    assert [one["diaSourceId"] for one in found.motion.members] == mover
    assert "pArtefact" not in found.detection


def test_exposures_say_what_is_known_of_them(linked):
    night, _ = linked
    rows = night.exposures.to_arrow().to_pylist()
    assert [row["visit"] for row in rows] == [100, 101, 102]
    assert {row["status"] for row in rows} == {"done"}
    assert rows[0]["noise"] == night.image(100, 5).meta["noise"]
    assert len(night.exposures(["visit"], "visit > 100 and band == 'r'")) == 2
    assert night.exposures["exposureTime"].unit == u.s


def test_exposures_without_pixels_are_listed_too(linked, tmp_path):
    out = shutil.copytree(linked[0].out, tmp_path / "out")
    shutil.rmtree(out / "tiles")
    night = ns.open(out)
    assert night.exposures.to_arrow()["band"].null_count == len(night.exposures) == 3
    with pytest.raises(ns.Misconfigured, match="pruned"):
        night.image(100, 5)
    (out / "release.json").write_text("{}")
    with pytest.raises(ns.Misconfigured, match="open the output folder that the release was made from"):
        night.image(100, 5)


@pytest.mark.slow
def test_a_night_that_was_run(uninterrupted):
    """Everything on a night that `nightstride run` has published."""
    _, out = uninterrupted
    night = ns.open(out)
    rows = night.detections().to_arrow().to_pylist()
    assert rows
    found = night.explain(rows[0]["diaSourceId"])
    assert found.record.visit == rows[0]["visit"]
    shown = found._repr_html_()
    assert f"<th>detection</th><td>{rows[0]['diaSourceId']}, x " in shown
    assert {"<th>file difference</th>", "<th>model detect</th>", "<th>stages</th>"} <= set(
        re.findall("<th>[^/]*</th>", shown)
    )
    cutout = night.cutout(rows[0]["diaSourceId"])
    assert {"difference", "science"} <= set(cutout.planes)
    assert len(night.lightcurve(rows[0]["diaSourceId"])) >= 1
    assert len(night.objects()) > 0
    assert night.exposures.to_pandas()["nDetections"].sum() == len(rows)


def test_a_night_without_labels_is_still_something(tmp_path):
    """``if night`` asks whether there is one, not how many labels it has."""
    publish(tmp_path)
    night = ns.open(tmp_path)
    assert len(night) == len(NIGHTS)
    assert bool(ns.Night(tmp_path, ()))
