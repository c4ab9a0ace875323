import json

from tests.support.cli import nightstride


def test_a_table_and_a_settings_file(cameras, tmp_path):
    path = tmp_path / "camera.toml"
    done = nightstride("inspect", cameras["sip"].path, "--write", path)
    assert done.code == 0
    for words in ("mid_exposure_utc", "not used: MAGZPT", "flag assumed_gain", "ASSUMED", "OBSGEO-X", "extensions: 0"):
        assert words in done.stdout
    assert "[fits.time]" in path.read_text()
    again = nightstride("inspect", cameras["sip"].path, "--write", path)
    assert (again.code, "file_exists" in again.stderr or "exists" in again.stderr) == (2, True)
    assert nightstride("inspect", cameras["sip"].path, "--config", path).code == 0


def test_flags_and_extensions_name_the_settings_that_help(cameras):
    said = nightstride("inspect", cameras["extensions"].path).stdout
    assert 'not used: extension SCI (science?): if it is, set planes = { science = "SCI" } in [fits]' in said
    assert "flag no_zero_point: no zero point: fluxes are null (settings: [fits.zero_point])" in said


def test_names_of_files_are_shown_as_they_are_without_control_characters(cameras, tmp_path):
    path = tmp_path / "a:on:\x1b[31m.fits"
    path.write_bytes(b"SIMPLE  = nonsense")
    said = nightstride("inspect", path).stdout
    assert said.count(r"a:on:\x1b[31m.fits") == 2
    written = nightstride("inspect", cameras["sip"].path, "--write", tmp_path / "my camera.toml").stdout
    assert f"--config '{tmp_path}/my camera.toml'" in written


def test_json_is_the_last_line(cameras):
    done = nightstride("inspect", cameras["mosaic_3"].path, cameras["mosaic_7"].path, "--json")
    first, second = done.summary["files"]
    assert (first["quantities"]["detector"]["value"], second["quantities"]["detector"]["value"]) == (3, 7)
    assert first["quantities"]["gain"] == {
        "value": 1.0, "unit": "electrons per electron", "keyword": "", "said": "", "assumed": False,
        "note": "pixels are electrons: 1",
    }  # fmt: skip
    assert done.summary["per_detector"] == ["CCDNUM"]
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["written"] is None


def test_a_file_that_cannot_be_searched_is_3_and_a_wrong_path_2(cameras, tmp_path):
    (tmp_path / "x.fits").write_bytes(b"SIMPLE  = nonsense")
    done = nightstride("inspect", tmp_path / "x.fits", cameras["rates"].path)
    assert done.code == 3
    assert "CANNOT BE SEARCHED" in done.stdout
    assert nightstride("inspect", tmp_path / "none.fits").code == 2
