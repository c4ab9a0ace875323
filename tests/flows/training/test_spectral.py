import json

import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.results.evaluation.spectral import evaluate_spectral
from flows.training import spectral
from flows.training.class_fit import ClassFit
from flows.training.spectral import SpectralPlan, simulated_stars, train_spectral
from flows.training.spectral_sample import Sample
from kernels.statistics.class_scores import calibration_error, class_scores, macro_area, rounded
from schemas.errors import BadInput, Misconfigured
from tests.flows.results.evaluation.test_spectral import table

FAST = ("majority", "nearest_colour", "tree")
ROWS = 105  # so few that each value has a bin of its own: quantiles of a feature take longer than a fit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table, and the folder and figures of a comparison and a model made from it."""
    path, out = table(tmp_path_factory.mktemp("made"), rows=ROWS), tmp_path_factory.mktemp("out")
    plan = SpectralPlan(models=FAST, name="superclass")
    return path, out, train_spectral(path, out, plan, lambda _: None)


def test_compares_draws_and_makes_a_model(made):
    _, out, figures = made
    assert [one["model"] for one in figures["comparison"]] == list(FAST)
    assert figures["importance"].keys() >= {"redshift", "g-r"}
    assert sum(figures["pca_variance"]) == pytest.approx(1, abs=0.01)
    names = {one.name for one in out.iterdir()}
    assert names == {"comparison.md", "comparison.json", "comparison.png", "superclass.json", "superclass.safetensors"}
    assert json.loads((out / "comparison.json").read_text()) == json.loads(json.dumps(figures))
    held = figures["model"]["card"]["held_out"]
    assert 0.15 * ROWS < held["n"] <= 0.2 * ROWS
    assert held["accuracy"] > 0.9


def test_a_model_made_here_is_found_by_its_folder(made):
    path, out, _ = made
    model = load_model("superclass", str(out))
    assert model.version == "superclass 1"
    figures = evaluate_spectral(path, {"redshift": str(out)})
    assert figures["models"]["redshift"]["model"] == "superclass/superclass 1"
    assert figures["trained_on"] == ["redshift"]


def test_simulated_stars_beside_the_rows_of_a_table_are_on_the_card(tmp_path):
    path = table(tmp_path, rows=60)
    plan = SpectralPlan(features="colours", models=(), stars=40, name="superclass")
    train_spectral(path, tmp_path / "out", plan, lambda _: None)
    figures = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert figures["classes"] == ["star", "galaxy", "quasar"], "they name the rows of the confusion"
    about = load_model("superclass", str(tmp_path / "out")).card.training
    assert about["data"].endswith("and 40 simulated stars")
    assert about["command"].endswith("--stars 40")
    assert 0.75 * 100 < sum(about["rows_per_class"].values()) < 0.85 * 100


def test_the_same_seed_gives_the_same_bytes(made, tmp_path):
    path, out, _ = made
    train_spectral(path, tmp_path, SpectralPlan(models=(), name="superclass"), lambda _: None)
    first, second = ((folder / "superclass.safetensors").read_bytes() for folder in (out, tmp_path))
    assert first == second


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (
            SpectralPlan(features="n9"),
            r"--features: 'n9' is not known\. To fix, choose one of n5, n8, photometry",
        ),
        (SpectralPlan(models=("majority", "forrest")), r"--models: 'forrest' is not known\. To fix, write 'forest'"),
        (SpectralPlan(task="stars"), r"--task: 'stars' is not known\. To fix, write 'star'"),
        (SpectralPlan(rebalance="adasyn"), r"--rebalance: 'adasyn' is not known\. To fix, choose one of none, smote"),
        (SpectralPlan(), "only stars in ugriz are simulated"),
        (SpectralPlan(task="star"), "only stars in ugriz are simulated"),
    ],
)
def test_refuses_plans_that_cannot_be(tmp_path, plan, problem):
    with pytest.raises(Misconfigured, match=problem):
        train_spectral(None, tmp_path / "out", plan, print)
    assert not (tmp_path / "out").exists()


def test_refuses_tables_without_the_columns(tmp_path):
    path = table(tmp_path, redshift=False)
    with pytest.raises(BadInput, match=r"column redshift: not in the table"):
        train_spectral(path, tmp_path / "out", SpectralPlan(), print)
    with pytest.raises(BadInput, match=r"column gz2class: not in the table"):
        train_spectral(path, tmp_path / "out", SpectralPlan(task="galaxy", features="n5"), print)


@pytest.mark.parametrize(
    ("plan", "plates"), [(SpectralPlan(models=FAST), 4), (SpectralPlan(models=(), name="superclass"), 5)]
)
def test_too_few_plates_are_said(tmp_path, plan, plates):
    path = table(tmp_path, rows=60)
    first, header, *rows = path.read_text().splitlines()
    told = (f"{row},{1000 + n % plates}" for n, row in enumerate(rows))
    path.write_text("\n".join([first, f"{header},plate", *told]))
    with pytest.raises(BadInput, match=rf"are of {plates} spectroscopic plates.*: {plates + 1} are needed") as error:
        train_spectral(path, tmp_path / "out", plan, lambda _: None)
    assert error.value.code == "few_plates"


def test_colours_that_are_all_alike_have_no_line(tmp_path, monkeypatch):
    monkeypatch.setattr(spectral, "temperature_and_colour", lambda path: (np.array([4e3, 5e3]), np.ones(2), "B-V, mag"))
    assert spectral.regress_colour(tmp_path, tmp_path) == {"stars": 2, "colour": "B-V, mag"}


def test_stars_regress_colour_on_temperature(tmp_path):
    path = tmp_path / "stars.csv"
    rng = np.random.default_rng(1)
    lines = ["Vmag,Plx,e_Plx,B-V,SpType,Amag,TargetClass"]
    for n in range(120):
        letter, colour = [("A5V", 0.16), ("G5V", 0.68), ("K5V", 1.15)][n % 3]
        lines.append(f"8,10,1,{colour + rng.normal(0, 0.02):.3f},{letter},20,1")
    path.write_text("\n".join(lines))
    plan = SpectralPlan(task="star", models=("majority", "tree"))
    figures = train_spectral(path, tmp_path / "out", plan, lambda _: None)
    found = figures["temperature_to_colour"]
    assert found["5040/temperature"]["r2"] > 0.97
    assert found["5040/temperature"]["interval"][0] <= found["5040/temperature"]["r2"]
    assert (tmp_path / "out/temperature.png").exists()
    with pytest.raises(Misconfigured, match="no model of 'star'"):
        train_spectral(path, tmp_path / "new", SpectralPlan(task="star", name="x"), print)
    assert not (tmp_path / "new").exists()  # before the comparison, which takes long


def test_simulated_stars_are_of_ten_classes():
    assert len(simulated_stars(100, 1).classes) == 10


def test_the_share_of_variance_that_a_line_explains_has_an_interval():
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, 80)
    y = 2 - x + rng.normal(0, 0.2, 80)
    found = spectral._r_squared(x, y)
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    assert found["r2"] == round(1 - residual.var() / y.var(), 4)
    again, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        rows = again.integers(0, 80, 80)
        left = y[rows] - np.polyval(np.polyfit(x[rows], y[rows], 1), x[rows])
        drawn.append(1 - left.var() / y[rows].var())
    assert found["interval"] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=1e-4)


def test_the_line_is_that_of_least_squares_in_5040_over_the_temperature(tmp_path, monkeypatch):
    drawn = []
    kelvin = np.linspace(4000, 9000, 30)
    colour = 1.2345678 * 5040 / kelvin - 0.3456789 + 0.01 * np.sin(kelvin)
    monkeypatch.setattr(spectral, "temperature_and_colour", lambda path: (kelvin, colour, "B-V, mag"))
    monkeypatch.setattr("flows.training.spectral_pictures.draw_regression", lambda *given: drawn.append(given))
    found = spectral.regress_colour(tmp_path, tmp_path)
    x = 5040 / kelvin
    slope = np.cov(x, colour)[0, 1] / x.var(ddof=1)
    assert (found["slope"], found["offset"]) == (round(slope, 4), round(colour.mean() - slope * x.mean(), 4))
    assert (found["stars"], found["colour"]) == (30, "B-V, mag")
    assert found["temperature"]["r2"] == round(np.corrcoef(kelvin, colour)[0, 1] ** 2, 4)
    assert found["5040/temperature"]["r2"] == round(np.corrcoef(x, colour)[0, 1] ** 2, 4)
    np.testing.assert_allclose(drawn[0][2], [slope, colour.mean() - slope * x.mean()])
    low, high = found["5040/temperature"]["interval"]
    assert drawn[0][3] == ("B-V, mag", f"R² {found['5040/temperature']['r2']:.3f} ({low:.3f}-{high:.3f})")


class Said:
    """Model that says what it is told."""

    def __init__(self, probability, outlier):
        self.probability, self.outlier = probability, outlier

    def __call__(self, columns):
        return self

    def by_nearest_colour(self, columns):
        return self.probability[:, ::-1]


def test_rows_that_nothing_is_said_of_are_not_scored():
    rng = np.random.default_rng(2)
    probability = rng.dirichlet(np.ones(3), 60)
    probability[:3] = np.nan
    outlier = np.where(np.arange(60) % 7 == 0, 1.5, 1.0)
    code = rng.integers(0, 3, 60).astype(np.int16)
    found = spectral._measured(Said(probability, outlier), Sample({}, code, ("a", "b", "c"), np.arange(60)))
    known, judged = code[3:].astype(np.int64), probability[3:]
    for name, said in (("held_out", judged), ("held_out_nearest_colour", judged[:, ::-1])):
        expected = rounded(class_scores(known, said.argmax(1), 3)) | {"auc": round(macro_area(known, said), 5)}
        assert found[name] == expected
    assert found["calibration_error"] == round(calibration_error(known, judged), 4)
    assert found["unknown_share"] == round(8 / 57, 4)


def stars_of(classes, bands="ugriz"):
    return Sample(
        {band: np.zeros(6, np.float32) for band in bands},
        np.arange(6) % classes,
        tuple("abcdef"[:classes]),
        np.arange(6),
    )


@pytest.mark.parametrize(
    ("task", "bands", "classes", "made"),
    [
        ("superclass", "ugriz", 3, True), ("star", "ugriz", 4, True), ("galaxy", "ugriz", 3, False),
        ("star", "ugri", 3, False), ("star", "ugriz", 2, False),
    ],
)  # fmt: skip
def test_a_model_needs_its_task_all_bands_and_three_classes(task, bands, classes, made):
    plan = SpectralPlan(task=task, name="x")
    if made:
        spectral._require_model(stars_of(classes, bands), plan)
    else:
        with pytest.raises(Misconfigured, match=f"no model of '{task}' of {classes} classes"):
            spectral._require_model(stars_of(classes, bands), plan)


def test_defaults_of_the_plan_and_of_the_card():
    plan = SpectralPlan()
    assert (plan.least_class, plan.stars, plan.seed, plan.brighter, plan.larger, plan.name) == (
        20,
        0,
        1,
        None,
        None,
        None,
    )
    assert spectral.SIMULATED_STARS == 40_000
    card = spectral._card(
        simulated_stars(50, 1), stars_of(3), ("g-r",), SpectralPlan("star", name="x"), ClassFit(), None
    )
    assert (card["input"]["least_bands"], card["threshold"], card["calibration"]["outlier_limit"]) == (2, 1.0, 1.0)
    assert card["false_alarm_rate"] == "0.5% of unseen rows of the training table are called unknown"
    assert card["training"]["rows_per_class"] == {"a": 2, "b": 2, "c": 2}
    assert card["training"]["data"] == "simulated stars: flows/simulation/star_colours.py"
    assert (card["training"]["data_sha256"], card["training"]["data_licence"]) == (
        "made by the command",
        "BSD-3-Clause",
    )
    command = "nightstride train spectral-class --task star --features photometry-redshift --name x --seed 1"
    assert card["training"]["command"] == command


class Written:
    def model_dump(self, mode):
        return {"metrics": {}}


def test_a_fifth_of_the_rows_is_held_out(monkeypatch, tmp_path):
    seen, columns = [], {"g": np.zeros(100, np.float32)}
    rows = Sample(columns, np.arange(100) % 3, ("a", "b", "c"), np.arange(100), {"split_by": "row"})
    monkeypatch.setattr(spectral, "fit_class_model", lambda fit, *rest: seen.append(len(fit.code)) or {})
    monkeypatch.setattr(spectral, "class_model", lambda card, arrays: None)
    monkeypatch.setattr(spectral, "_measured", lambda model, test: seen.append(len(test.code)) or {})
    monkeypatch.setattr(spectral, "write_model", lambda *given: Written())
    spectral._ship(rows, ("g-r",), SpectralPlan("star", name="x"), tmp_path, None)
    assert seen == [80, 20]
