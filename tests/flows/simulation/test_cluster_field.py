import json
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from scipy.integrate import quad
from scipy.stats import kstest

from flows.inputs.cluster_table import read_clusters
from flows.inputs.picture_files import list_pictures, read_picture
from flows.results.evaluation.picture_scores import label_sets
from flows.simulation import cluster_field
from flows.simulation.cluster_field import BANDS, SIDE, ClusterField, catalogue, galaxy_planes, write_cluster_field
from flows.training.membership import fit_red_sequence
from flows.training.pictures import PLANS, train_pictures
from schemas.errors import Misconfigured
from tests.support.cli import nightstride


@cache
def many():
    return catalogue(ClusterField(seed=5, count=6000))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    write_cluster_field(ClusterField(seed=2, count=60, folder=folder))
    return folder


def of_kind(kind, name):
    return np.array([row["_true"][name] for row in many() if row["kind"] == kind])


def test_bytes_follow_from_the_seed_whatever_the_processes(written, tmp_path):
    told = []
    write_cluster_field(ClusterField(seed=2, count=60, folder=tmp_path), 2, told.append)
    assert told == list(range(1, 61))
    for path in sorted(written.rglob("*.*")):
        assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes()
    assert catalogue(ClusterField(seed=3, count=2))[0]["r"] != catalogue(ClusterField(seed=2, count=2))[0]["r"]


def test_table_and_pictures_are_read_by_those_they_are_for(written):
    table, files = read_clusters(written / "galaxies.csv"), list_pictures(written / "galaxies.csv")
    stars = sum(file.label == "star" for file in files)
    assert (len(files), table.truth) == (60, "the table")
    known, without = label_sets("cluster", files)
    assert known == {"member": frozenset({"member"}), "not member": frozenset({"not member"})}
    assert without == {"star": stars}
    assert 0 < table.star_redshifts <= stars  # of half of them there is a spectrum
    assert table.columns["member"].sum() == sum(file.label == "member" for file in files)
    assert read_picture(files[0].path, 512).shape == (SIDE, SIDE, 3)


def test_luminosities_of_members_are_those_of_schechter():
    modulus = FlatLambdaCDM(70, 0.3).distmod(0.0179).value

    def density(r):
        light = 10 ** (-0.4 * (r - modulus + 21.5))
        return light ** (1 - 1.3) * np.exp(-light)

    whole = quad(density, 14.5, 21.0)[0]
    share = np.vectorize(lambda r: quad(density, 14.5, r)[0] / whole)
    seen = kstest(of_kind("red member", "r"), share)
    assert seen.pvalue > 0.01


def test_red_members_are_on_a_red_sequence_which_the_training_finds(tmp_path):
    r, colour = of_kind("red member", "r"), of_kind("red member", "g") - of_kind("red member", "z")
    slope, at = np.polyfit(r - 16.5, colour, 1)
    assert slope == pytest.approx(-0.035, abs=0.003)
    assert at == pytest.approx(1.30, abs=0.01)
    write_cluster_field(ClusterField(seed=8, count=300, folder=tmp_path))
    table = read_clusters(tmp_path / "galaxies.csv")
    assert fit_red_sequence(table, table.columns["member"].astype(int)).scatter[0] == pytest.approx(0.07, abs=0.02)


def test_shares_and_redshifts():
    counts = Counter(row["kind"] for row in many())
    assert counts["red member"] / (counts["red member"] + counts["blue member"]) == pytest.approx(5 / 6, abs=0.02)
    speeds = 299_792 * (of_kind("red member", "redshift") - 0.0179) / 1.0179
    assert np.std(speeds) == pytest.approx(1030, rel=0.1)  # km/s: Perseus (Aguerri et al. 2020, MNRAS 494, 1681)
    assert of_kind("late background", "redshift").min() >= 0.033
    assert set(of_kind("star", "redshift")) == {0.0}


@pytest.mark.parametrize("kind", ["early background", "late background", "red member", "star"])
def test_light_of_a_picture_is_that_of_its_magnitudes(kind):
    row = next(row for row in many() if row["kind"] == kind and row["_true"]["radius"] < 2)
    for plane, band in zip(galaxy_planes(row, ClusterField(noise=1e-6, neighbours=0)), BANDS, strict=True):
        assert plane.sum() == pytest.approx(10 ** (-0.4 * (row["_true"][band] - 30)), rel=0.06)


def test_noise_is_that_of_the_sky_times_its_factor():
    row = next(row for row in many() if row["kind"] == "early background" and row["_true"]["r"] > 20.5)
    corners = np.concatenate(
        [galaxy_planes(row | {"_number": n}, ClusterField(noise=3.0))[1, :6, :6] for n in range(40)]
    )
    assert 1.4826 * np.median(np.abs(corners - np.median(corners))) == pytest.approx(15.0, rel=0.1)


def test_what_makes_no_field_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="not a number of galaxies"):
        write_cluster_field(replace(ClusterField(folder=tmp_path), count=0))


def test_the_command_writes_it(written, tmp_path):
    command = ("simulate", "--preset", "cluster", "--count", "60", "--seed", "2", "--out", str(tmp_path), "--json")
    said = nightstride(*command)
    assert json.loads(said.stdout.splitlines()[-1])["cutouts"] == 60
    assert (tmp_path / "galaxies.csv").read_bytes() == (written / "galaxies.csv").read_bytes()


def test_a_network_learns_from_fields_that_are_drawn_for_it(tmp_path):
    plan = replace(PLANS["cluster"], side=32, fields=40, repeats=1, fit=replace(PLANS["cluster"].fit, epochs=3))
    figures = train_pictures("cluster", [], tmp_path / "out", tmp_path, plan, 1, 1, lambda _: None)
    assert figures["classes"] == ["not member", "member"]
    assert figures["notes"]["labels_without_class"].keys() == {"star"}
    assert (tmp_path / "out" / "cluster.safetensors").is_file()


def test_members_of_a_near_cluster_do_not_come_towards_us():
    rows = catalogue(ClusterField(1, 300, redshift=0.003))  # a warning of astropy would be an error
    assert min(row["_true"]["redshift"] for row in rows if row["member"]) >= 0.001


def test_sizes_of_blue_members_scatter_by_18_hundredths_of_a_dex_about_their_line():
    """Radii in kpc against absolute magnitudes, as the table of sizes says."""
    field = ClusterField(seed=5, count=1)
    rng = np.random.default_rng(8)
    drawn = [cluster_field._drawn("blue member", field, rng) for _ in range(1500)]
    universe = cluster_field._COSMOLOGY
    absolute = np.array([one["r"] for one in drawn]) - universe.distmod(field.redshift).value
    scale = np.array([universe.kpc_proper_per_arcmin(one["redshift"]).value / 60 for one in drawn])
    radius = np.array([one["radius"] for one in drawn])
    whole = (radius > 0.1) & (radius < 8)
    left = np.log10(radius * scale) - (0.15 - 0.07 * (absolute + 17))
    assert whole.mean() > 0.95
    assert (np.median(left[whole]), left[whole].std()) == pytest.approx((0, 0.18), abs=0.025)


def test_the_brightest_members_have_the_steepest_profiles():
    """A Sersic index of 1 at M = -13 and 0.2 more each magnitude, with a fifth of scatter."""
    field = ClusterField(seed=5, count=1)
    rng = np.random.default_rng(9)
    drawn = [cluster_field._drawn("red member", field, rng) for _ in range(1500)]
    absolute = np.array([one["r"] for one in drawn]) - cluster_field._COSMOLOGY.distmod(field.redshift).value
    index = np.array([one["index"] for one in drawn])
    some = (absolute < -15) & (absolute > -20)
    assert some.sum() > 300
    assert np.median(index[some] / (1 + 0.2 * (-13 - absolute[some]))) == pytest.approx(1, abs=0.04)
