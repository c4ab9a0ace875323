"""The command against an archive on this machine."""

import json
import re
import shlex
from pathlib import Path

import pytest

from flows.inputs.archive.client import PASSWORD, USER
from flows.storage.lease import lease
from tests.support.cli import nightstride
from tests.support.night import catalogues

pytest_plugins = ("tests.support.night_fixture", "tests.support.archive_fixture")
NIGHT = ("--from", "2018-12-01")


def fetch(archive, *arguments, **environment):
    given = {
        "NIGHTSTRIDE_FETCH__URL": archive.url, "NIGHTSTRIDE_FETCH__BACKOFF_S": "0",
        "NIGHTSTRIDE_FETCH__RETRIES": "1", **environment,
    }  # fmt: skip
    run = nightstride("fetch", "ztf", *arguments, "--json", **given)
    last = run.stdout.splitlines()[-1] if run.stdout else ""
    return run, json.loads(last) if last.startswith("{") else None


def test_dry_run_lists_what_then_comes_and_again_nothing_does(archive, tmp_path):
    out, sizes = tmp_path / "raw", {place: len(data) for place, data in archive.files.items()}
    dry, told = fetch(archive, *NIGHT, "--template", "--out", out, "--dry-run")
    assert dry.code == 0, dry.stderr
    assert dict(reversed(line.split()) for line in dry.stdout.splitlines()[:-1]) == {
        place: str(size) for place, size in sizes.items()
    }
    assert (told["exposures"], told["left"], told["files"], told["bytes"]) == (4, 4, len(sizes), sum(sizes.values()))
    assert not out.exists()

    run, done = fetch(archive, *NIGHT, "--template", "--out", out)
    assert run.code == 0, run.stderr
    assert (done["whole"], done["left"], done["files"], done["bytes"]) == (4, 0, len(sizes), sum(sizes.values()))
    assert done["received"] == done["bytes"]

    run, again = fetch(archive, *NIGHT, "--template", "--out", out)
    assert (again["whole"], again["files"], again["received"]) == (4, 0, 0)
    assert re.search(r"4 exposures in 1 night: 4 whole, 0 to be fetched", run.stderr)


def test_a_fetched_night_is_that_of_the_same_files(archive, ztf_night, nightstride_run, tmp_path):
    run, _ = fetch(archive, *NIGHT, "--to", "20181202", "--field", 464, "--filter", "g", "--ccdid", 1, "--qid", 1,
                   "--qid", 2, "--out", tmp_path / "raw")  # fmt: skip
    assert run.code == 0, run.stderr
    (tmp_path / "flat").mkdir()
    for path in ztf_night.iterdir():
        if not path.name.endswith("refimg.fits"):
            (tmp_path / "flat" / path.name).symlink_to(path)
    for name in ("raw", "flat"):
        finished = nightstride_run.here(
            tmp_path / name, "--out", tmp_path / "out" / name, NIGHTSTRIDE_INJECT__SHARE="0"
        )
        assert finished.counts == (4, 4, 0, 0, 0), finished.stderr
    assert finished.summary["detections"] > 0
    assert catalogues(tmp_path / "out" / "raw") == catalogues(tmp_path / "out" / "flat")


@pytest.mark.slow
def test_the_recipe_of_the_documentation_is_a_night(archive, nightstride_run, tmp_path):
    """Each command of docs/use/archives.md as it stands, in an empty folder."""
    page = (Path(__file__).parents[3] / "docs/use/archives.md").read_text()
    recipe = page.split("### One public night, step by step")[1].split("```")[1].strip().splitlines()
    assert [line.split()[1] for line in recipe] == ["fetch", "fetch", "inspect", "run", "status", "quality"]
    given = nightstride_run._variables({"NIGHTSTRIDE_FETCH__URL": archive.url, "NIGHTSTRIDE_INJECT__SHARE": "0"})
    for line in recipe:
        done = nightstride(*shlex.split(line)[1:], cwd=tmp_path, **given)
        assert done.code == 0, (line, done.stderr)
    assert len(list((tmp_path / "raw").rglob("*_scimrefdiffimg.fits.fz"))) == 2
    assert list((tmp_path / "out/reports").glob("*/index.html"))


def test_what_fails_is_said_and_the_rest_comes(archive, tmp_path):
    bad = min(place for place in archive.files if "mskimg" in place)
    archive.trouble = lambda place, number, headers: 503 if place == bad else None
    run, done = fetch(archive, *NIGHT, "--no-science", "--out", tmp_path)
    assert run.code == 1
    assert (done["exposures"], done["whole"], len(done["failed"])) == (4, 3, 1)
    assert bad in done["failed"][0]["message"]
    assert "answers 503" in run.stderr
    assert not list(tmp_path.rglob("*sciimg.fits"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--from"),
        (("--from", "yesterday"), "'yesterday' is not a date"),
        ((*NIGHT, "--to", "2018-11-30"), "is before --from"),
        ((*NIGHT, "--filter", "u"), "must be one of g, r, i"),
    ],
)
def test_bad_usage_ends_with_2(archive, tmp_path, arguments, says):
    run, _ = fetch(archive, *arguments, "--out", tmp_path / "raw")
    assert run.code == 2
    assert says in run.stderr
    assert not (tmp_path / "raw").exists()


def test_limits_and_settings_end_with_2_and_locks_with_4(archive, tmp_path):
    run, _ = fetch(archive, *NIGHT, "--out", tmp_path, NIGHTSTRIDE_FETCH__MAX_GIB="0.0001")
    assert (run.code, "raise the limit" in run.stderr) == (2, True)
    run, _ = fetch(archive, *NIGHT, "--out", tmp_path, NIGHTSTRIDE_FETCH__URL="https://ann:secret@irsa.example/ibe")
    assert (run.code, "fetch.url" in run.stderr, "secret" in run.stderr) == (2, True, False)
    archive.trouble = lambda place, number, headers: 401
    run, _ = fetch(archive, *NIGHT, "--out", tmp_path, **{USER: "ann", PASSWORD: "secret!"})
    assert (run.code, f"set {USER}" in run.stderr, "secret!" in run.stderr) == (2, True, False)
    with lease(tmp_path):
        run, _ = fetch(archive, *NIGHT, "--out", tmp_path)
    assert (run.code, "another run holds it" in run.stderr) == (4, True)
    assert not list(tmp_path.rglob("*.fits*"))
