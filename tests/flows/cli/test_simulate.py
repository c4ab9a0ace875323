import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from flows.cli.app import app


def simulate(*arguments: str):
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_json_ends_with_one_object_that_names_the_files(tmp_path: Path) -> None:
    started = time.monotonic()
    result = simulate(
        *("--preset", "ztf", "--visits", "1", "--detectors", "2", "--seed", "3", "--out", str(tmp_path)),
        *("--streaks", "5", "--size", "120", "150", "--workers", "1", "--json"),
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert len(summary["exposures"]) == 2
    assert fits.getdata(summary["exposures"][0]).shape == (120, 150)
    assert summary["streaks"] == 10
    assert 0 < summary["seconds"] <= time.monotonic() - started + 0.01
    assert pq.read_table(summary["truth"])["kind"].to_pylist().count("streak") == 10


def test_words_for_people(tmp_path: Path) -> None:
    result = simulate("--preset", "rubin", "--visits", "1", "--size", "100", "100", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "1 exposure with 20 streaks" in result.stdout
    assert len(list(tmp_path.glob("differenceExp_*.fits"))) == 1


def test_bad_usage_says_so_and_exits_with_2(tmp_path: Path) -> None:
    result = simulate("--preset", "lsst", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    every = "llnl, ztf, rubin, decam, star-galaxy, cluster"
    assert f"'lsst' is not a preset. To fix, choose one of {every}." in result.stderr
    assert not (tmp_path / "out").exists()


def test_npz_pairs(tmp_path: Path) -> None:
    result = simulate(
        *("--preset", "llnl", "--visits", "2", "--size", "100", "100", "--out", str(tmp_path), "--format", "npz"),
        *("--workers", "1"),
    )
    assert result.exit_code == 0, result.output
    assert "2 exposures with 40 streaks" in result.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "asteroid_difference_images_0.npz",
        "asteroid_injected_information_0.npz",
        "truth.parquet",
    }


def test_cutouts_of_stars_and_galaxies(tmp_path):
    command = ["simulate", "--preset", "star-galaxy", "--out", str(tmp_path), "--seed", "4", "--count", "100"]
    result = CliRunner().invoke(app, [*command, "--workers", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["cutouts"] == 100
    assert pq.read_table(tmp_path / "truth.parquet").num_rows == 100
    assert (tmp_path / "cutouts-000.safetensors").exists()


def test_half_a_field_of_cutouts_is_bad_usage(tmp_path):
    command = ["simulate", "--preset", "star-galaxy", "--out", str(tmp_path), "--count", "150"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "not a positive multiple of 100" in result.stderr


def test_surveys_nights_are_subtracted_and_three_images_written(tmp_path: Path) -> None:
    result = simulate(
        *("--preset", "decam", "--visits", "1", "--template", "--size", "120", "150"),
        *("--out", str(tmp_path), "--workers", "1"),
    )
    assert result.exit_code == 0, result.output
    names = sorted(path.name.split("_")[0] for path in tmp_path.glob("*.fits"))
    assert names == ["differenceExp", "scienceExp", "templateExp"]
    difference, science, template = (fits.getdata(*tmp_path.glob(f"{name}_*"), "IMAGE") for name in names)
    rest = science - template - difference
    assert np.nanstd(rest) > 2  # a subtraction is not exact


@pytest.mark.parametrize(("preset", "options"), [("llnl", ()), ("ztf", ("--subtract", "none"))])
def test_the_challenges_nights_are_drawn(tmp_path: Path, preset: str, options: tuple[str, ...]) -> None:
    size = ("--size", "100", "100", "--out", str(tmp_path), "--workers", "1")
    assert simulate("--preset", preset, "--visits", "1", "--template", *size, *options).exit_code == 0
    difference, science, template = (
        fits.getdata(next(tmp_path.rglob(f"*_{name}.fits*")), 1 if name == "scimrefdiffimg" else 0)
        for name in ("scimrefdiffimg", "sciimg", "refimg")
    )
    rest = science - template - difference
    assert np.nanstd(rest) < 1  # a flat sky; the difference is compressed


def test_an_unknown_subtraction_is_bad_usage(tmp_path: Path) -> None:
    result = simulate("--subtract", "hotpants", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "choose of none, zogy, convolution, sfft, mixed" in result.stderr
