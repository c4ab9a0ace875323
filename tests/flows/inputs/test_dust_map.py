import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy_healpix import HEALPix

from flows.inputs.dust_map import dust_digest, dust_of, read_dust_map
from flows.storage.digest import file_digest
from schemas.errors import Misconfigured
from schemas.settings import GatherObjectsSettings, Settings
from stages import gather_objects, link_hosts

SIDE = 64


def written(path, order="nested", system="G", name="EBV", **cards):
    """A map of |sin(latitude)| / 10."""
    grid = HEALPix(SIDE, order=order)
    _, lat = grid.healpix_to_lonlat(np.arange(grid.npix))
    table = fits.BinTableHDU.from_columns([fits.Column(name, "E", array=np.abs(np.sin(lat.rad)) / 10)])
    for key, value in {"ORDERING": order.upper(), "COORDSYS": system, "NSIDE": SIDE, **cards}.items():
        table.header[key] = value
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("order", ["nested", "ring"])
@pytest.mark.parametrize("system", ["G", "C"])
def test_reads_what_a_map_says_of_a_place(tmp_path, order, system):
    dust = read_dust_map(written(tmp_path / "map.fits", order, system))
    place = SkyCoord([10, 150, 300] * u.deg, [-40, 5, 70] * u.deg)
    lat = place.galactic.b if system == "G" else place.dec
    np.testing.assert_allclose(dust(place.ra.deg, place.dec.deg), np.abs(np.sin(lat.rad)) / 10, atol=3e-3)


def test_a_stage_uses_the_map_of_its_own_section_and_depends_on_its_bytes(tmp_path):
    path = written(tmp_path / "map.fits")
    settings = Settings(gather_objects=GatherObjectsSettings(dust_map=str(path)))
    assert dust_digest(gather_objects.STAGE, settings) == (file_digest(path),)
    assert dust_of(gather_objects.STAGE, settings)["dust_map"](np.array([0.0]), np.array([0.0])).shape == (1,)
    assert dust_digest(link_hosts.STAGE, settings) == dust_digest(gather_objects.STAGE, Settings()) == ()
    assert dust_of(gather_objects.STAGE, Settings()) == {}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "cannot be used as a dust map"),
        (lambda path: path.write_text("no map"), "cannot be used as a dust map"),
        (lambda path: written(path, ORDERING="NUNIQ"), "ORDERING 'nuniq'"),
        (lambda path: written(path, COORDSYS="E"), "COORDSYS 'E'"),
    ],
)
def test_refuses_what_is_no_map(tmp_path, spoil, says):
    path = written(tmp_path / "map.fits")
    spoil(path)
    with pytest.raises(Misconfigured, match=says):
        read_dust_map(path)


def test_a_missing_map_stops_the_run_before_any_work(tmp_path):
    settings = Settings(gather_objects=GatherObjectsSettings(dust_map=str(tmp_path / "none.fits")))
    with pytest.raises(Misconfigured, match=r"set gather_objects.dust_map = null"):
        dust_digest(gather_objects.STAGE, settings)


@pytest.mark.parametrize(("pixels", "right"), [(12, True), (48, True), (36, False), (13, False), (24, False)])
def test_a_map_has_twelve_times_a_square_of_pixels(tmp_path, pixels, right):
    table = fits.BinTableHDU.from_columns([fits.Column("EBV", "E", array=np.ones(pixels))])
    table.header["ORDERING"] = "RING"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "map.fits")
    if right:
        assert read_dust_map(tmp_path / "map.fits")(np.array([10.0]), np.array([5.0])) == pytest.approx([1.0])
    else:
        with pytest.raises(Misconfigured, match=f"{pixels} pixels"):
            read_dust_map(tmp_path / "map.fits")


@pytest.mark.parametrize(("names", "right"), [(("other",), True), (("x", "ebv"), True), (("x", "y"), False)])
def test_a_map_has_a_column_of_that_name_or_one_alone(tmp_path, names, right):
    columns = [fits.Column(name, "E", array=np.full(12, n, float)) for n, name in enumerate(names)]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["ORDERING"] = "RING"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "map.fits")
    if right:
        assert read_dust_map(tmp_path / "map.fits")(np.array([10.0]), np.array([5.0])) == pytest.approx(
            [len(names) - 1]
        )
    else:
        with pytest.raises(Misconfigured, match="none of them"):
            read_dust_map(tmp_path / "map.fits")
