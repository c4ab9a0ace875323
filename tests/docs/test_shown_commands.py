"""Commands and snippets of several pages, run on a small night as they stand but for names of files."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import nightstride as ns
from tests.support.cli import nightstride

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

COMMANDS = {
    "operate/operations.md": [
        "nightstride status OUT [--night YYYYMMDD]",
        "nightstride models OUT",
        "nightstride explain OUT ID",
        "nightstride backfill ARCHIVE --out OUT --dry-run",
    ],
    "operate/quality.md": ["nightstride quality OUT [--night YYYYMMDD]"],
    "start/first_night.md": [
        "nightstride verify night/out",
        "nightstride evaluate detect night/out --truth night/raw/truth.parquet",
        "nightstride report night/out --truth night/raw/truth.parquet",
    ],
    "use/night_page.md": ["nightstride report OUT --night 20210901"],
    "use/inspect.md": ["nightstride inspect FILE... [--write camera.toml] [--config settings.toml] [--json]"],
    "use/python.md": [
        'nightstride export OUT --dataset dia_source --where "reliability > 0.9" --to sources.fits',
        "nightstride release OUT --name DR1 --night 20261101..20261130 --to dr1",
        "nightstride verify dr1",
    ],
    "use/catalogues.md": ["nightstride export OUT --dataset object --to objects.vot"],
    "use/linking.md": [
        "nightstride link TABLE [--nights N] [--orbits MPCORB.DAT] [--obscode CODE] [--out FILE.parquet] [--json]"
    ],
    "use/ades.md": [
        "nightstride ades OUT --night YYYYMMDD [--format psv|xml|obs80] [--dry-run|--submit] [--to FILE] [--json]"
    ],
    "use/association.md": ["nightstride associate OUT [--night NIGHTS] [--rebuild] [--config FILE] [--json]"],
    "use/ztf_packets.md": ["nightstride alerts publish OUT --to FOLDER --schema ztf"],
}
LEFT_OUT = r"\[--(?:nights|orbits|obscode|out|config|night|rebuild|dry-run|format|to)[^]]*\]"


def text_of(page):
    return (ROOT / page if page == "README.md" else ROOT / "docs" / page).read_text()


def snippets(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(uninterrupted, raw_night, tmp_path_factory):
    """Folder with a copy of a night, its images and truth, named as on the pages."""
    folder = tmp_path_factory.mktemp("shown")
    shutil.copytree(uninterrupted[1], folder / "night/out", symlinks=True)
    shutil.copytree(raw_night, folder / "night/raw")
    shutil.copy(raw_night.parent / "truth.parquet", folder / "night/raw")
    return folder


@pytest.fixture(scope="module")
def night(place):
    return ns.open(place / "night/out")


@pytest.fixture
def run(place, night, monkeypatch, nightstride_run):
    """Run a line of a page in that folder, with what there is in place of its names."""
    (label,) = night.nights
    frame = night.detections(["diaSourceId", "ra", "dec", "midpointMjdTai"]).to_pandas()
    frame.dropna().rename(columns={"midpointMjdTai": "mjd"}).to_csv(place / "table.csv", index=False)
    cards = {"DATE-OBS": "2026-01-01T03:00:00", "EXPTIME": 30.0, "FILTER": "r"}
    noise = np.random.default_rng(3).normal(0, 5, (100, 110)).astype("float32")
    fits.PrimaryHDU(noise, fits.Header(cards.items())).writeto(place / "camera.fits", overwrite=True)
    names = {
        "OUT": "night/out", "[YYYYMMDD]": label, "YYYYMMDD": label, "20210901": label, "20261101..20261130": label,
        "ID": str(frame["diaSourceId"][0]), "ARCHIVE": "night/raw", "FILE...": "camera.fits", "TABLE": "table.csv",
        "FOLDER": "alerts", "[--write": "--write", "camera.toml]": "camera.toml", "[--json]": "--json",
    }  # fmt: skip

    def line(text, **environment):
        words = re.findall(r'"[^"]*"|\S+', re.sub(LEFT_OUT, "", text))
        given = [names.get(word, word).strip('"') for word in words[1:]]
        return nightstride(*given, cwd=place, **nightstride_run._variables(environment))

    return line


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, lines in COMMANDS.items() for line in lines])
def test_commands_do_what_they_say(run, page, line):
    assert line in text_of(page)
    finished = run(line)
    # of `ades`: a night without tracklets is not a report; of `quality`: a first night has nothing to be compared with
    assert finished.code == 0, (finished.code, finished.stdout, finished.stderr)
    assert finished.stdout


def test_the_snippet_of_the_readme_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    names = {}
    for snippet in snippets("README.md"):
        exec(compile(snippet, "README.md", "exec"), names)
    assert {"ra", "dec"} <= set(names["sources"].columns)


def test_cutouts_are_read_as_objects_md_says(place, night):
    names = {"out": str(place / "night/out"), "night": night.nights[0]}
    (snippet,) = snippets("method/objects.md")
    exec(compile(snippet, "objects.md", "exec"), names)
    assert names["pictures"].shape[0] == names["ids"].shape[0] > 0


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_lsdb_opens_objects_as_catalogues_md_says(place, night):
    (snippet,) = snippets("use/catalogues.md", "py")
    place_of = night.objects(["ra", "dec"]).to_pandas().iloc[0]
    names = {"out": str(place / "night/out"), "night": night.nights[0], "mine": pd.DataFrame([place_of])}
    snippet = re.sub(r", margin_cache=.*\n", "\n", snippet)  # of a night with one patch
    snippet = snippet.replace("ra=123.4, dec=45.6", f"ra={place_of.ra}, dec={place_of.dec}")
    exec(compile(snippet, "catalogues.md", "exec"), names)
    assert len(names["near"]) > 0
    assert len(names["matched"]) > 0


def test_images_of_alerts_are_read_as_alerts_md_says(run, place, monkeypatch):
    finished = run("nightstride alerts publish OUT --to rubin")
    assert finished.code == 0, finished.stderr
    path = next((place / "rubin").rglob("*.avro"))
    (snippet,) = snippets("use/alerts.md")
    names = {}
    exec(compile(snippet.replace("alerts/99429086.avro", str(path)), "alerts.md", "exec"), names)
    assert names["image"].data.ndim == 2
    for verb in ("validate", "show"):
        assert run(f"nightstride alerts {verb} {path}").code == 0


def test_the_report_of_ades_md_is_one(tmp_path):
    (report,) = re.findall(r"^```\n(# version=2022.*?)^```$", text_of("use/ades.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "report.psv").write_text(report)
    assert nightstride("ades", "validate", tmp_path / "report.psv").code == 0
