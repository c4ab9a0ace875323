import json
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from flows.cli.app import app
from flows.results.evaluation.membership import evaluate_membership, membership_figures, place_numbers
from flows.training import membership
from flows.training.membership import MembershipPlan, fit_red_sequence, train_membership
from schemas.errors import BadInput, Misconfigured

RIDGE = (1.3, 3.0, 2.0, -0.05)


def field(seed, clusters=12, each=30):
    """Clusters with a red sequence and galaxies behind them, with a photometric redshift of one part in fifty."""
    rng = np.random.default_rng(seed)
    n = clusters * each
    cluster = np.repeat(np.arange(clusters), each)
    cluster_z = rng.uniform(0.03, 0.15, clusters)[cluster]
    member = rng.random(n) < 0.5
    redshift = np.where(member, cluster_z + rng.normal(0, 0.002, n), rng.uniform(0.02, 0.3, n))
    r = rng.uniform(15, 18.5, n)
    ridge = RIDGE[0] + RIDGE[1] * redshift + RIDGE[2] * redshift**2 + RIDGE[3] * (r - 16.5)
    blue = rng.random(n) < np.where(member, 0.2, 0.6)
    colour = ridge + rng.normal(0, 0.06, n) - blue * rng.uniform(0.3, 1.0, n)
    return Table({
        "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-80, 80, n), "g": 16.0 + colour, "r": r, "z": np.full(n, 16.0),
        "zphot": redshift + rng.normal(0, 0.02, n), "zphot_err": np.full(n, 0.02), "cluster_z": cluster_z,
        "radius_r200": np.where(member, rng.beta(1, 2, n), np.sqrt(rng.random(n))), "cluster": cluster,
        "member": member.astype(int),
    })  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("membership")
    field(1).write(folder / "seen.csv", format="ascii.csv")
    field(2).write(folder / "unseen.csv", format="ascii.csv")
    plan = MembershipPlan(trees=40, repeats=2)
    return folder, train_membership(folder / "seen.csv", folder / "model", plan, 1, lambda line: None)


def test_the_figures_of_the_folds_hold_on_clusters_of_another_draw(made):
    folder, figures = made
    found = evaluate_membership(folder / "unseen.csv", str(folder / "model"))
    assert found["n"] == 360
    assert found["trained_on"] == 0
    assert found["truth"] == "the table"
    assert abs(found["accuracy"] - figures["accuracy_mean"]) < 0.06
    assert found["accuracy"] > 0.8
    assert found["baselines"]["red sequence"]["gain_interval"][0] > 0
    assert found["baselines"]["photometric redshift cut"]["gain"] > 0
    assert sum(one["n"] for one in found["regions"].values()) == found["n"]


def test_what_is_not_given_is_told(made, tmp_path):
    folder, table = made[0], field(2)
    members = table["member"].astype(str)
    members[:10] = ""
    table["member"] = members
    table["zphot_err"] = -99.0
    table["zphot"][10:15] = np.nan
    table.write(tmp_path / "t.csv", format="ascii.csv")
    found = evaluate_membership(tmp_path / "t.csv", str(folder / "model"))
    counts = {name: found[name] for name in ("n", "unlabelled", "unjudged", "assumed_errors", "not_given")}
    assert counts == {
        "n": 345, "unlabelled": 10, "unjudged": 5, "assumed_errors": 345, "not_given": {"zphot_err": 360}
    }  # fmt: skip
    assert found["accuracy"] > 0.75


def test_rows_that_were_learnt_from_are_told_and_left_out(made):
    folder, _ = made
    assert evaluate_membership(folder / "seen.csv", str(folder / "model"))["trained_on"] == 360
    with pytest.raises(BadInput, match="no row"):
        evaluate_membership(folder / "seen.csv", str(folder / "model"), unseen=True)


def test_galaxies_are_known_again_by_places_that_others_have_measured(made, tmp_path):
    folder, model = made[0], str(made[0] / "model")
    table = Table.read(folder / "seen.csv", format="ascii.csv")
    table["ra"] = (np.asarray(table["ra"], np.float32) - 360.0) + 0.1 / 3600
    table.write(tmp_path / "t.csv", format="ascii.csv")
    assert evaluate_membership(tmp_path / "t.csv", model)["trained_on"] == 360
    table.remove_columns(["ra", "dec"])
    table.write(tmp_path / "t.csv", format="ascii.csv", overwrite=True)
    assert evaluate_membership(tmp_path / "t.csv", model)["trained_on"] == 0


def test_the_red_sequence_is_the_one_that_galaxies_were_drawn_from(made):
    from flows.inputs.cluster_table import read_clusters

    table = read_clusters(made[0] / "seen.csv")
    found = fit_red_sequence(table, table.columns["member"].astype(int))
    z, r = 0.09, 16.5
    at = np.array([1, z, z**2, r - 16.5])
    assert at @ found.coefficients == pytest.approx(at @ RIDGE, abs=0.03)
    assert found.scatter[0] == pytest.approx(0.06, rel=0.35)


def test_figures_count_what_is_right_against_a_rule():
    truth, probability = np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.1, 0.2])
    rule = np.array([0, 0, 0, 0])
    region, cluster = np.array([0, 1, 2, -1]), np.array(["a", "a", "b", "b"])
    found = membership_figures(probability, truth, {"none": rule}, region, cluster)
    assert found["accuracy"] == 0.75
    assert found["confusion"] == [[2, 0], [1, 1]]
    assert found["baselines"]["none"]["accuracy"] == 0.5
    assert found["baselines"]["none"]["gain"] == 0.25
    assert found["baselines"]["none"]["gain_interval"] == [0.0, 0.5], "two clusters: one gains 0.5, the other nothing"
    assert found["baselines"]["none"]["outside_red_sequence"]["gain"] == 0.0
    alone = membership_figures(probability, truth, {"none": rule}, region, np.full(4, "a"))
    assert alone["baselines"]["none"]["gain_interval"] is None
    assert found["regions"]["red sequence"]["n"] == 1


def test_the_shipped_model_judges_a_table_by_the_command(made):
    result = CliRunner().invoke(app, ["evaluate", "membership", "--data", str(made[0] / "unseen.csv"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["model"].startswith("membership/default ")
    assert found["published"] is None
    assert set(found) >= {"n", "accuracy", "accuracy_interval", "macro_f1", "per_class", "confusion"}


def test_too_few_clusters_and_no_table_are_refused(made, tmp_path, monkeypatch):
    field(3, clusters=3).write(tmp_path / "few.csv", format="ascii.csv")
    with pytest.raises(BadInput, match="has 3 clusters"):
        train_membership(tmp_path / "few.csv", tmp_path, MembershipPlan(), 1, print)
    monkeypatch.delenv("NIGHTSTRIDE_DATA", raising=False)
    with pytest.raises(Misconfigured, match="no galaxies to learn from"):
        train_membership(None, tmp_path, MembershipPlan(), 1, print)
    (tmp_path / "file").touch()
    field(3).write(tmp_path / "seen.csv", format="ascii.csv")
    with pytest.raises(Misconfigured, match="the folder cannot be made there"):
        train_membership(tmp_path / "seen.csv", tmp_path / "file", MembershipPlan(), 1, lambda line: 1 / 0)


def test_the_time_is_told_in_minutes_to_two_digits(tmp_path, monkeypatch):
    times = iter((100.0, 107.4))
    monkeypatch.setattr(membership, "perf_counter", lambda: next(times))
    field(1).write(tmp_path / "seen.csv", format="ascii.csv")
    plan = MembershipPlan(trees=2, repeats=1)
    figures = train_membership(tmp_path / "seen.csv", tmp_path / "model", plan, 1, lambda line: None)
    assert figures["minutes"] == 0.12
    assert figures["accuracy_spread"] is None  # of one repeat


def test_places_have_numbers_of_their_own_unless_they_are_not_known():
    ra, dec = np.array([10.0, 10.0, 10.001, np.nan, 0.0, 0.0]), np.array([5.0, 5.0001 / 1.00002, 5.0, 5.0, np.nan, 0.0])
    found = place_numbers(SimpleNamespace(columns={"ra": ra, "dec": dec}))
    assert (found[3], found[4]) == (-1, -1)
    assert (found[[0, 1, 2, 5]] > 0).all()
    assert found[0] == found[1] != found[2]
