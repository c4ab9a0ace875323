import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

from flows.results.evaluation.truth_table import read_truth
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.errors import BadInput, Misconfigured
from schemas.truth import TRUTH

COLUMNS = {
    "kind": ["streak", "point", "satellite"],
    "visit": [7, 7, 8],
    "detector": [0, 0, 1],
    "x": [10.5, 20.0, 300.0],
    "y": [11.5, 21.0, 310.0],
    "snr": [9.0, 5.0, 80.0],
    "length_px": [12.0, 0.0, 900.0],
    "angle_deg": [30.0, 0.0, 95.0],
    "visible": [0.9, 1.0, 0.8],
    "fwhm_px": [2.4, 2.5, 2.6],
    "beta": [3.0, 3.0, 3.1],
}


def written(path, columns, how):
    if how == "parquet":
        pq.write_table(pa.table(columns), path)
    elif how == "csv":
        pc.write_csv(pa.table(columns), path)
    else:
        table = QTable({name: np.array(values) for name, values in columns.items()})
        table["x"] = table["x"] * units.pix
        table.write(path, format="ascii.ecsv")
    return path


@pytest.mark.parametrize("how", ["parquet", "csv", "ecsv"])
def test_reads_every_format_whatever_its_name(tmp_path, how):
    truth = read_truth([written(tmp_path / "table.dat", COLUMNS, how)])
    assert truth.kind.tolist() == COLUMNS["kind"]
    assert truth.visit.tolist() == [7, 7, 8]
    for name, column in {"x": "x", "snr": "snr", "length": "length_px", "visible": "visible", "beta": "beta"}.items():
        assert getattr(truth, name).tolist() == COLUMNS[column]
    assert truth.images == {(7, 0), (8, 1)}
    assert truth.on(7, 0).kind.tolist() == ["streak", "point"]


def test_reads_the_challenges_own_files(tmp_path):
    preset = find_preset("llnl", streaks=3, shape=(120, 130))
    simulate_night(SimulatedNight(preset, 2, 1, 2, tmp_path, form="npz"))
    truth = read_truth([tmp_path / "asteroid_injected_information_0.npz"])
    simulated = read_truth([tmp_path / "truth.parquet"])
    streaks = simulated.take(simulated.kind == "streak")
    assert truth.visit.tolist() == streaks.visit.tolist()
    np.testing.assert_allclose(truth.x, streaks.x, atol=1)
    np.testing.assert_allclose(truth.angle, streaks.angle, atol=1e-6)
    assert np.isnan(truth.snr).all()  # they do not say


def test_images_of_the_challenge_are_no_truth(tmp_path):
    path = tmp_path / "asteroid_difference_images_0.npz"
    np.savez(path, data=np.zeros((1, 8, 8), np.float32))
    with pytest.raises(BadInput, match=r"holds numbers, not tables\. To fix, use the challenge's own file"):
        read_truth([path])


@pytest.mark.parametrize("how", ["parquet", "csv", "ecsv"])
def test_reads_what_another_simulator_wrote(tmp_path, how):
    ours = {name: COLUMNS[name] for name in COLUMNS if name not in ("visible", "fwhm_px", "beta")}
    theirs = dict(reversed(ours.items())) | {"rate": [1, 2, 3], "x": [10, 20, 300], "visit": [7.0, 7.0, 8.0]}
    truth = read_truth([written(tmp_path / "truth", theirs, how)])
    assert truth.visible.tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(truth.fwhm).all()
    assert np.isnan(truth.beta).all()
    assert truth.x.dtype == np.float64
    assert truth.visit.dtype == np.int64


def test_other_dtypes_and_nulls(tmp_path):
    table = pa.table(COLUMNS)
    table = table.set_column(table.column_names.index("kind"), "kind", table["kind"].dictionary_encode())
    table = table.set_column(table.column_names.index("y"), "y", table["y"].cast(pa.float32()))
    table = table.set_column(table.column_names.index("visible"), "visible", pa.array([None, 0.2, 1.0]))
    pq.write_table(table, tmp_path / "truth")
    truth = read_truth([tmp_path / "truth"])
    assert truth.visible.tolist() == [1.0, 0.2, 1.0]
    assert truth.kind.tolist() == COLUMNS["kind"]
    assert truth.targets.counted.tolist() == [True, False, False]


def test_masked_values_of_an_ecsv_are_nulls(tmp_path):
    columns = {name: np.array(values) for name, values in COLUMNS.items()}
    columns["length_px"] = MaskedColumn([12, 1, 900], mask=[False, True, False])
    columns["fwhm_px"] = MaskedColumn([2, 2, 2], mask=[True, False, False])
    columns["snr"] = MaskedColumn([9.0, 5.0, 80.0], mask=[False, True, False])
    columns["place"] = SkyCoord([1, 2, 3], [4, 5, 6], unit="deg")
    QTable(columns).write(tmp_path / "t", format="ascii.ecsv")
    truth = read_truth([tmp_path / "t"])
    assert truth.length.tolist() == [12, 0, 900]
    assert np.isnan(truth.fwhm).tolist() == [True, False, False]
    assert np.isnan(truth.snr).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("name", "column"),
    [("visit", MaskedColumn([7, 7, 8], mask=[True, False, False])), ("x", np.array([{"a": 1}, [2], "c"], object))],
)
def test_values_of_an_ecsv_that_cannot_be_used(tmp_path, name, column):
    columns = {key: np.array(values) for key, values in COLUMNS.items()} | {name: column}
    Table(columns).write(tmp_path / "t", format="ascii.ecsv")
    with pytest.raises(Misconfigured) as raised:
        read_truth([tmp_path / "t"])
    assert raised.value.code in ("bad_value", "unreadable_truth")


def test_reads_our_own_schema(tmp_path):
    row = {field.name: 1 if pa.types.is_integer(field.type) else 0.5 for field in TRUTH.schema}
    row |= {"kind": "streak", "objectName": "", "ra": None}
    pq.write_table(pa.Table.from_pylist([row], schema=TRUTH.schema), tmp_path / "truth.parquet")
    assert read_truth([tmp_path / "truth.parquet"]).length.tolist() == [0.5]


def test_joins_files(tmp_path):
    files = [written(tmp_path / "a", COLUMNS, "csv"), written(tmp_path / "b", COLUMNS, "parquet")]
    assert len(read_truth(files)) == 6


@pytest.mark.parametrize("name", ["kind", "visit", "detector", "x", "y", "snr", "length_px", "angle_deg"])
def test_names_the_missing_column(tmp_path, name):
    path = written(tmp_path / "t.csv", {key: COLUMNS[key] for key in COLUMNS if key != name}, "csv")
    with pytest.raises(Misconfigured, match=f"has no column {name};") as raised:
        read_truth([path])
    assert raised.value.code == "missing_column"
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "comet"),
        ("kind", None),
        ("visit", None),
        ("x", np.nan),
        ("snr", None),
        ("visit", 7.5),
        ("angle_deg", "left"),
    ],
)
def test_names_the_column_of_a_bad_value(tmp_path, name, value):
    values = pa.array([value, *map(type(value) if value is not None else lambda v: v, COLUMNS[name][1:])])
    pq.write_table(pa.table(COLUMNS | {name: values}), tmp_path / "t")
    with pytest.raises(Misconfigured, match=f"{name}: has a value that cannot be used") as raised:
        read_truth([tmp_path / "t"])
    assert raised.value.code == "bad_value"


@pytest.mark.parametrize("how", ["parquet", "csv", "ecsv"])
def test_a_streak_without_a_signal_to_noise_is_refused_in_every_format(tmp_path, how):
    with pytest.raises(Misconfigured, match="snr: has a value that cannot be used"):
        read_truth([written(tmp_path / "t", COLUMNS | {"snr": [np.nan, 5.0, 80.0]}, how)])


@pytest.mark.parametrize("content", [b"PAR1 no more", b"", b"# %ECSV 1.0\n# nothing"])
def test_unreadable_file(tmp_path, content):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="cannot be read as Parquet, ECSV, CSV or npz") as raised:
        read_truth([path])
    assert raised.value.code == "unreadable_truth"
    with pytest.raises(Misconfigured, match="absent: does not exist"):
        read_truth([tmp_path / "absent"])


def test_streaks_alone_need_a_signal_to_noise(tmp_path):
    pq.write_table(pa.table(COLUMNS | {"snr": [9.0, None, np.nan]}), tmp_path / "t")
    assert np.isnan(read_truth([tmp_path / "t"]).snr).tolist() == [False, True, True]


def test_a_point_needs_no_length_or_angle(tmp_path):
    nulls = {"length_px": [12.0, None, 900.0], "angle_deg": [30.0, None, 95.0]}
    pq.write_table(pa.table(COLUMNS | nulls), tmp_path / "t")
    truth = read_truth([tmp_path / "t"])
    assert (truth.length[1], truth.angle[1]) == (0.0, 0.0)
    pq.write_table(pa.table(COLUMNS | {"length_px": [None, 0.0, 900.0]}), tmp_path / "t")
    with pytest.raises(Misconfigured, match="length_px: has a value that cannot be used"):
        read_truth([tmp_path / "t"])
