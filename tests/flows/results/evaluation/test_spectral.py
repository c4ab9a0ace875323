import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flows.results.evaluation.spectral import evaluate_spectral, redshift_cuts, spectral_table
from schemas.errors import BadInput

KEYS = {"n", "accuracy", "accuracy_interval", "auc", "macro_f1", "per_class", "confusion"}


def table(tmp_path, rows=60, redshift=True, labels=("STAR", "GALAXY", "QSO")):
    """Rows with the colours that stars, galaxies and quasars of SDSS have at 17th magnitude."""
    rng = np.random.default_rng(1)
    colours = {"STAR": (1.1, 0.4, 0.13, 0.05), "GALAXY": (1.6, 0.85, 0.38, 0.3), "QSO": (0.15, 0.1, 0.12, 0.05)}
    shift = {"STAR": 0.0, "GALAXY": 0.08, "QSO": 1.4}
    lines = ["#Table1", "u,g,r,i,z,class" + (",redshift" if redshift else "")]
    for n in range(rows):
        name = labels[n % len(labels)]
        ug, gr, ri, iz = np.array(colours.get(name, colours["STAR"])) + rng.normal(0, 0.03, 4)
        r = rng.uniform(16.5, 18)
        values = [r + gr + ug, r + gr, r, r - ri, r - ri - iz]
        text = ",".join(f"{value:.4f}" for value in values) + f",{name}"
        lines.append(text + (f",{shift.get(name, 0) + rng.normal(0, 1e-4):.6f}" if redshift else ""))
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_both_models_and_their_rivals_have_the_same_keys(tmp_path):
    figures = evaluate_spectral(table(tmp_path))
    assert set(figures["models"]) == {"redshift", "photometry"}
    scores = [figures, *figures["models"].values()]
    scores += [one for model in figures["models"].values() for one in model["baselines"].values()]
    assert all(one.keys() >= KEYS for one in scores)
    assert set(figures["models"]["redshift"]["baselines"]) == {"nearest_colour", "majority", "redshift_cuts"}
    assert figures["accuracy"] == figures["models"]["redshift"]["accuracy"] > 0.95
    assert figures["models"]["photometry"]["accuracy"] > 0.9
    assert np.sum(figures["confusion"]) == figures["n"] == 60
    assert figures["trained_on"] == []
    json.dumps(figures, allow_nan=False)


def test_without_redshift_there_is_one_model(tmp_path):
    figures = evaluate_spectral(table(tmp_path, redshift=False))
    assert list(figures["models"]) == ["photometry"]
    assert "redshift_cuts" not in figures["baselines"]


def test_labels_of_no_class_are_counted(tmp_path):
    figures = evaluate_spectral(table(tmp_path, labels=("STAR", "QSO", "SKY")))
    assert figures["n"] == 40
    assert figures["labels_without_class"] == {"SKY": 20}
    with pytest.raises(BadInput, match="no row has a class"):
        evaluate_spectral(table(tmp_path, labels=("SKY",)))


def test_one_class_has_no_area(tmp_path):
    figures = evaluate_spectral(table(tmp_path, labels=("STAR",)))
    assert figures["auc"] is None
    assert figures["n"] == 60
    json.dumps(figures, allow_nan=False)


def test_a_row_without_bands_is_not_judged_and_a_strange_one_unknown(tmp_path):
    path = table(tmp_path)
    lines = path.read_text().splitlines()
    lines[2] = "-9999,-9999,17.0,-9999,99,STAR,0.0"
    lines[3] = "17.0,24.0,17.0,24.0,17.0,STAR,0.0"
    path.write_text("\n".join(lines))
    figures = evaluate_spectral(path)
    assert figures["unjudged"] == 1
    assert figures["n"] == 59
    assert figures["unknown"] >= 1


def in_ps1(path, drop=()):
    """Write a table of SDSS as PS1 sees it, by Tonry et al. 2012, table 6, turned round by iteration."""
    head, *lines = path.read_text().splitlines()[1:]
    rows = np.array([[float(value) for value in line.split(",")[:5]] for line in lines])
    g, r, i, z = rows[:, 1:].T
    x = g - r
    for _ in range(20):
        x = g - r - 0.014 - 0.141 * x - 0.012 * x**2
    seen = {
        "g": g - 0.013 - 0.145 * x - 0.019 * x**2,
        "r": r + 0.001 - 0.004 * x - 0.007 * x**2,
        "i": i + 0.005 - 0.011 * x - 0.010 * x**2,
        "z": z - 0.013 + 0.039 * x + 0.012 * x**2,
    }
    names = [name for name in seen if name not in drop]
    out = path.with_name("ps1.csv")
    rest = [line.split(",")[5:] for line in lines]
    body = [",".join([*(f"{seen[k][n]:.5f}" for k in names), *more]) for n, more in enumerate(rest)]
    out.write_text("\n".join([",".join([*names, *head.split(",")[5:]]), *body]) + "\n")
    return out


def test_a_table_of_another_system_is_taken_to_sdss(tmp_path):
    path = table(tmp_path)
    there = evaluate_spectral(in_ps1(path), system="ps1")
    without_u = path.with_name("griz.csv")
    header, *lines = path.read_text().splitlines()[1:]
    without_u.write_text("\n".join([header.replace("u,", "-,"), *lines]))
    with pytest.raises(BadInput, match="column u: not in the table"):
        evaluate_spectral(without_u)
    assert there["system"] == "ps1"
    assert there["untransformed"] == {}
    assert there["models"]["redshift"]["accuracy"] > 0.95
    few = evaluate_spectral(in_ps1(path, drop=("i", "z")), system="decam")
    assert (few["untransformed"], few["n"]) == ({"colour_term": 60}, 0)


def test_faint_rows_without_u_are_counted_for_a_model_that_sees_the_brightness(tmp_path):
    path = in_ps1(table(tmp_path))
    deeper = tmp_path / "deeper.csv"
    header, *lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    shifted = [",".join([*(f"{float(value) + 2.5:.4f}" for value in row[:4]), *row[4:]]) for row in rows]
    deeper.write_text("\n".join([header, *shifted]) + "\n")
    assert evaluate_spectral(path, system="ps1")["faint_without_u"] == 0
    by_brightness = evaluate_spectral(deeper, system="ps1")
    by_colour = evaluate_spectral(deeper, {"photometry": "colours"}, "ps1")
    assert 40 < by_brightness["faint_without_u"] <= 60
    assert by_colour["faint_without_u"] == 0
    purity = [one["models"]["photometry"]["purity"]["quasar"]["share"] for one in (by_brightness, by_colour)]
    assert purity[0] < purity[1]
    path.write_text("u" + table(tmp_path).read_text().split("u", 1)[1])
    assert evaluate_spectral(path)["faint_without_u"] == 0


def test_purity_counts_what_is_given_a_class(tmp_path):
    figures = evaluate_spectral(table(tmp_path))["models"]["photometry"]
    confusion = np.array(figures["confusion"])
    given = {name: one["given"] for name, one in figures["purity"].items()}
    assert figures["unknown"] + sum(given.values()) == confusion.sum()
    assert all(given[name] <= confusion[:, k].sum() for k, name in enumerate(("star", "galaxy", "quasar")))
    star = figures["purity"]["star"]
    assert star["share"] == pytest.approx(star["right"] / star["given"], abs=1e-4)
    assert star["interval"][0] <= star["share"] <= star["interval"][1]


def test_each_class_has_precision_and_recall(tmp_path):
    figures = evaluate_spectral(table(tmp_path))["models"]["photometry"]
    for one in (figures, figures["baselines"]["majority"]):
        confusion = np.array(one["confusion"])
        assert list(one["per_class"]) == ["star", "galaxy", "quasar"]
        for k, found in enumerate(one["per_class"].values()):
            assert found["n"] == confusion[k].sum() == 20
            assert found["recall"] == pytest.approx(confusion[k, k] / 20)
            assert found["precision"] == pytest.approx(confusion[k, k] / max(confusion[:, k].sum(), 1), abs=1e-5)


def test_cuts_in_redshift():
    cuts = redshift_cuts(np.array([-0.001, 0.0032, 0.01, 0.39, 0.41], np.float32))
    assert cuts.argmax(1).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set")
def test_the_real_table_says_that_it_is_no_test():
    path = Path(os.environ["NIGHTSTRIDE_DATA"]) / "03_sdss_tables/skyserver_dr14.csv"
    figures = evaluate_spectral(path)
    assert figures["trained_on"] == ["photometry", "redshift"]
    models = figures["models"]
    assert models["redshift"]["accuracy"] > models["redshift"]["baselines"]["redshift_cuts"]["accuracy"]
    assert models["photometry"]["accuracy"] > models["photometry"]["baselines"]["nearest_colour"]["accuracy"] + 0.1


SCORES = {"n": 10, "accuracy": 0.9, "accuracy_interval": [0.55, 0.9975], "macro_f1": 0.8123, "auc": None}


def shown(figures):
    console = Console(record=True, width=120)
    console.print(spectral_table(figures))
    return console.export_text()


def test_the_table_says_why_rows_have_no_verdict(tmp_path):
    path = table(tmp_path, labels=("STAR", "QSO", "SKY"))
    text = shown(evaluate_spectral(in_ps1(path, drop=("i", "z")), system="decam"))
    assert "0 rows" in text
    assert "without a class: SKY 20" in text
    assert "not judged: redshift 40, photometry 40" in text
    assert "not converted to SDSS: colour_term 40" in text
    assert "right of those called" not in text


def test_a_row_for_each_model_and_each_rival():
    purity = {"star": {"given": 8, "share": 0.625}, "galaxy": {"given": 0, "share": None}}
    baselines = {"nearest_colour": SCORES | {"auc": 0.75}, "silent": {"n": 0}}
    models = {"redshift": SCORES | {"purity": purity, "baselines": baselines, "unjudged": 0, "unknown": 0}}
    rest = {"duplicates": 0, "labels_without_class": {}, "untransformed": {}}
    text = shown(SCORES | {"classes": ["star", "galaxy"], "models": models} | rest)
    assert "10 rows: star, galaxy" in text
    assert text.index("redshift") < text.index("nearest_colour") < text.index("silent")
    assert "0.5500-0.9975" in text
    assert "0.7500" in text
    assert "right of those called, redshift: star 0.625" in text
