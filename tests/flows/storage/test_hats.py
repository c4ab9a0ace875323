from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix

from flows.storage import hats
from flows.storage.catalog_store import CatalogStore
from flows.storage.hats import FOOTERS, METADATA, PARTITIONS, remove_hats, write_hats
from kernels.sky.patches import Patch
from kernels.sky.positions import object_ids
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from tests.support.filled import filled

NIGHT = "20260101"
MARGIN = replace(OBJECT, name="object_margin")
WIDE, FINE = 1700, HEALPix(2**5, "nested")
PATCHES = ((5, WIDE), *((6, 4 * (WIDE + 1) + n) for n in range(4)), (5, WIDE + 2), (5, WIDE + 3))
"""Four pixels of order 5 that meet, one of them divided."""

REACH = 30.0


def positions(count=500, seed=3):
    """(ra, dec) all over the patches, and many within 20 arcsec of the borders."""
    rng = np.random.default_rng(seed)
    corner = SkyCoord(*(one[0, 0] for one in FINE.boundaries_lonlat([WIDE], 1)))
    spread = corner.directional_offset_by(
        rng.uniform(0, 360, count) * units.deg, 3 * np.sqrt(rng.uniform(0, 1, count)) * units.deg
    )
    edge = SkyCoord(*(one[0] for one in HEALPix(2**6, "nested").boundaries_lonlat([4 * WIDE + 4], 60)))
    close = edge.directional_offset_by(
        rng.uniform(0, 360, len(edge)) * units.deg, rng.uniform(0, 20, len(edge)) * units.arcsec
    )
    every = np.concatenate([np.stack([one.ra.deg, one.dec.deg]) for one in (spread, close)], axis=1)
    inside = np.any([Patch(order, pixel, 0).holds(*every) for order, pixel in PATCHES], 0)
    return every[:, inside]


def objects(form, ra, dec):
    return filled(form.schema, len(ra), objectId=object_ids(ra, dec), ra=ra, dec=dec).sort_by("objectId")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    out, (ra, dec) = tmp_path_factory.mktemp("out"), positions()
    store = CatalogStore(out)
    for form, margin in ((OBJECT, None), (MARGIN, ("object", REACH))):
        rows = {}
        for order, pixel in PATCHES:
            patch, key = Patch(order, pixel, REACH), PatchKey(night=NIGHT, order=order, pixel=pixel)
            chosen = patch.holds(ra, dec)
            if margin is not None:
                chosen = patch.holds(ra, dec, REACH) & ~chosen
            store.publish(form, key, objects(form, ra[chosen], dec[chosen]), f"digest of {key.name}")
            rows[key] = int(chosen.sum())
        write_hats(out, NIGHT, form, rows, margin)
    return out, ra, dec


def folder(out, form=OBJECT):
    return out / "catalogs" / form.name / f"night={NIGHT}"


@pytest.fixture(scope="module")
def lsdb():
    return pytest.importorskip("lsdb", reason="the extra hats is not installed")


quiet = pytest.mark.filterwarnings("ignore")  # of the libraries


@quiet
def test_lsdb_opens_it_as_it_is_with_each_row_once(published, lsdb):
    out, ra, _ = published
    catalogue = lsdb.open_catalog(folder(out))
    found = catalogue.compute()
    assert sorted(found["objectId"]) == sorted(object_ids(*published[1:]))
    assert len(catalogue) == len(found) == len(ra)
    assert len(catalogue.get_healpix_pixels()) == len(PATCHES)


@quiet
def test_a_cone_holds_what_astropy_finds_in_it(published, lsdb):
    out, ra, dec = published
    centre = SkyCoord(*(one[0, 0] for one in FINE.boundaries_lonlat([WIDE], 1)))
    found = lsdb.open_catalog(folder(out)).cone_search(centre.ra.deg, centre.dec.deg, 3600.0).compute()
    inside = SkyCoord(ra, dec, unit="deg").separation(centre).deg <= 1.0
    assert sorted(found["objectId"]) == sorted(object_ids(ra[inside], dec[inside]))
    assert inside.any()


@quiet
def test_a_cross_match_finds_partners_across_borders(published, lsdb):
    out, ra, dec = published
    moved = SkyCoord(ra, dec, unit="deg").directional_offset_by(37 * units.deg, 15 * units.arcsec)
    ids, there = object_ids(ra, dec), (moved.ra.deg, moved.dec.deg)
    before, after = (np.array([Patch(*one, 0).holds(*at) for one in PATCHES]) for at in ((ra, dec), there))
    covered = after.any(0)
    assert (before != after).any(0)[covered].sum() > 10  # these need the margin
    frame = pd.DataFrame({"objectId": ids, "ra": there[0], "dec": there[1]})[covered]
    other = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", drop_empty_siblings=False)
    opened = lsdb.open_catalog(folder(out), margin_cache=folder(out, MARGIN))
    found = other.crossmatch(opened, radius_arcsec=15.5, n_neighbors=9, suffixes=("_a", "_b")).compute()
    own = found[found["objectId_a"] == found["objectId_b"]]
    assert sorted(own["objectId_a"]) == sorted(frame["objectId"])
    np.testing.assert_allclose(own["_dist_arcsec"], 15.0, atol=0.01)


def test_other_readers_find_each_row_once(published):
    out, ra, _ = published
    paths = [str(path) for path in CatalogStore(out).list(OBJECT)]
    assert len(ds.dataset(str(folder(out) / "dataset"), partitioning="hive").to_table()) == len(ra)
    assert sum(pq.read_metadata(path).num_rows for path in paths) == len(ra)
    whole = ds.parquet_dataset(str(folder(out) / FOOTERS))
    assert len(whole.to_table(["objectId", "ra"])) == len(ra)
    duckdb = pytest.importorskip("duckdb")
    glob = f"{folder(out)}/dataset/*/*/*.parquet"
    counted = duckdb.sql(f"select count(*) from read_parquet('{glob}', hive_partitioning=true)")
    assert counted.fetchall() == [(len(ra),)]
    polars = pytest.importorskip("polars")
    assert len(polars.read_parquet(glob)) == len(ra)


def test_the_same_bytes_again_and_nothing_where_there_is_nothing(published, tmp_path):
    out, *_ = published
    before = {name: (folder(out) / name).read_bytes() for name in METADATA}
    keys = [PatchKey(night=NIGHT, order=order, pixel=pixel) for order, pixel in PATCHES]
    sizes = [pq.read_metadata(path).num_rows for path in CatalogStore(out).list(OBJECT)]
    rows = dict(zip(sorted(keys, key=lambda key: (key.order, key.pixel)), sizes, strict=True))
    write_hats(out, NIGHT, OBJECT, rows)
    assert {name: (folder(out) / name).read_bytes() for name in METADATA} == before
    CatalogStore(tmp_path).publish(OBJECT, keys[0], OBJECT.empty(), "d")
    write_hats(tmp_path, NIGHT, OBJECT, {keys[0]: 0})
    assert not any((folder(tmp_path) / name).exists() for name in METADATA)


def test_empty_patches_are_left_out_and_what_is_described_can_be_removed(tmp_path):
    ra, dec = positions(40)
    key, empty = (PatchKey(night=NIGHT, order=5, pixel=pixel) for pixel in (WIDE, WIDE + 2))
    inside = Patch(5, WIDE, 0).holds(ra, dec)
    CatalogStore(tmp_path).publish(OBJECT, key, objects(OBJECT, ra[inside], dec[inside]), "d")
    CatalogStore(tmp_path).publish(OBJECT, empty, OBJECT.empty(), "d")
    write_hats(tmp_path, NIGHT, OBJECT, {key: int(inside.sum()), empty: 0})
    assert (folder(tmp_path) / PARTITIONS).read_text() == f"Norder,Npix\n5,{WIDE}\n"
    remove_hats(folder(tmp_path))
    assert not any((folder(tmp_path) / name).exists() for name in METADATA)


@pytest.mark.parametrize("length", [1 << 17, 64])
def test_the_end_of_an_object_in_a_bucket_is_its_footer(published, monkeypatch, length):
    class Stored(hats.BucketPath):
        def __init__(self, content):
            self.content = content

        def read_end(self, wanted):
            return len(self.content), self.content[-wanted:]

        def read_bytes(self):
            return self.content

    monkeypatch.setattr(hats, "FOOTER", length)
    path = CatalogStore(published[0]).list(OBJECT)[0]
    stored = object.__new__(Stored)
    stored.content = path.read_bytes()
    assert hats._footer(stored).equals(pq.read_metadata(path))


@pytest.mark.parametrize(("less", "whole"), [(0, 0), (1, 1)])
def test_an_object_is_read_whole_only_if_its_footer_is_longer_than_the_end(published, monkeypatch, less, whole):
    path, read = CatalogStore(published[0]).list(OBJECT)[0], []
    content = path.read_bytes()

    class Stored(hats.BucketPath):
        def read_end(self, wanted):
            return len(content), content[-wanted:]

        def read_bytes(self):
            read.append(self)
            return content

    monkeypatch.setattr(hats, "FOOTER", int.from_bytes(content[-8:-4], "little") + 8 - less)
    assert hats._footer(object.__new__(Stored)).equals(pq.read_metadata(path))
    assert len(read) == whole


@pytest.mark.parametrize("most", [0, 1])
def test_the_footers_of_too_many_patches_are_not_gathered_and_those_of_before_go(tmp_path, monkeypatch, most):
    ra, dec = positions(40)
    key = PatchKey(night=NIGHT, order=5, pixel=WIDE)
    inside = Patch(5, WIDE, 0).holds(ra, dec)
    CatalogStore(tmp_path).publish(OBJECT, key, objects(OBJECT, ra[inside], dec[inside]), "d")
    write_hats(tmp_path, NIGHT, OBJECT, {key: int(inside.sum())})
    assert (folder(tmp_path) / FOOTERS).exists()
    monkeypatch.setattr(hats, "MOST_FOOTERS", most)
    write_hats(tmp_path, NIGHT, OBJECT, {key: int(inside.sum())})
    assert (folder(tmp_path) / FOOTERS).exists() == (most == 1)
    assert (folder(tmp_path) / PARTITIONS).read_text() == f"Norder,Npix\n5,{WIDE}\n"
