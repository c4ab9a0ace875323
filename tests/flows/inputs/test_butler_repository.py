"""Exposures in repositories that the middleware itself makes; files are read without the Rubin stack."""

import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from astropy.io import fits
from lsst.daf.butler import Butler
from lsst.resources import ResourcePath
from moto.server import ThreadedMotoServer

from flows.inputs.butler_repository import _address, sibling_types
from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.archive_settings import ButlerSettings
from schemas.errors import BadInput, Misconfigured
from schemas.settings import Settings
from tests.support.butler import ingest, insert_records, make_repository
from tests.support.cli import forget_stores, nightstride
from tests.support.night import catalogues, of_exposures

pytest_plugins = ("tests.support.night_fixture",)


@pytest.fixture(scope="module")
def rubin_night(tmp_path_factory):
    """Folder with difference, science and template images of 2 visits x 2 detectors."""
    folder = tmp_path_factory.mktemp("rubin")
    night = SimulatedNight(find_preset("rubin", 3, (200, 210)), 12, 2, 2, folder, True, True)
    simulate_night(night, 1, lambda done: None)
    (folder / "truth.parquet").unlink()
    return folder


@pytest.fixture(scope="module")
def repository(rubin_night, tmp_path_factory):
    """A repository with all of them."""
    root = make_repository(tmp_path_factory.mktemp("butler") / "repo")
    ingest(root, sorted(rubin_night.iterdir()))
    return root


def listed(root, **wanted):
    return list_sources([f"butler:{root}"], Settings(butler=ButlerSettings(**wanted)))


def refused(code, given, **wanted):
    with pytest.raises(Misconfigured) as caught:
        list_sources([f"butler:{given}"], Settings(butler=ButlerSettings(**wanted)))
    assert caught.value.code == code
    return str(caught.value)


def places(sources):
    keys = [probe(source, Settings()) for source in sources]
    return [(key.visit, key.detector) for key in keys]


def test_a_night_equals_that_of_the_same_files_in_a_folder(nightstride_run, repository, rubin_night, tmp_path):
    quick = {"NIGHTSTRIDE_INJECT__SHARE": "0"}
    of_folder = nightstride_run.here(rubin_night, "--out", tmp_path / "a", **quick)
    of_butler = nightstride_run.here(f"butler:{repository}", "--out", tmp_path / "b", **quick)
    assert (of_folder.code, of_butler.code) == (0, 0), of_butler.stderr
    assert of_butler.counts == of_folder.counts == (4, 4, 0, 0, 0)
    ours = catalogues(tmp_path / "b")
    assert ours == catalogues(tmp_path / "a")
    assert len(of_exposures(tmp_path / "b")) >= 8
    assert of_butler.summary["detections"] > 0

    again = nightstride_run.here(f"butler:{repository}", "--out", tmp_path / "b", **quick)
    assert again.counts == (4, 0, 4, 0, 0)


def test_siblings_are_datasets_of_the_same_visit_and_detector(repository):
    sources = listed(repository)
    assert len(sources) == 4
    for source in sources:
        assert [plane for plane, _ in source.siblings] == ["science", "template"]
        ending = Path(source.uri).name.removeprefix("difference_image")
        assert [Path(uri).name for _, uri in source.siblings] == [f"visit_image{ending}", f"template_detector{ending}"]
    info, planes = prepare(sources[0], Settings())
    assert set(planes) == {"difference", "mask", "variance", "science", "template"}
    assert info.instrument == "LSSTCam"


def test_an_expression_chooses_visits_and_detectors(repository):
    everything = places(listed(repository))
    visits = sorted({visit for visit, _ in everything})
    assert everything == [(visit, detector) for visit in visits for detector in (0, 1)]
    assert places(listed(repository, where=f"visit = {visits[1]}")) == [(visits[1], 0), (visits[1], 1)]
    assert places(listed(repository, where="detector in (1)")) == [(visit, 1) for visit in visits]
    assert places(listed(repository, where="instrument = 'LSSTCam' and detector < 1", collections=("runs/one",))) == [
        (visit, 0) for visit in visits
    ]


def test_other_dataset_types_bring_what_belongs_to_them(rubin_night, tmp_path):
    root = make_repository(tmp_path / "repo")
    types = {
        "difference": "fakes_goodSeeingDiff_differenceExp",
        "science": "fakes_calexp",
        "template": "fakes_goodSeeingDiff_matchedExp",
    }
    files = sorted(rubin_night.glob("*_000.fits"))
    ingest(root, files, types=types)
    ingest(root, [file for file in files if file.name.startswith("science")], types={"science": "calexp"})
    (first, _) = listed(root)
    names = {plane: Path(uri).name.split("_LSSTCam")[0] for plane, uri in first.siblings}
    assert names == {"science": "fakes_calexp", "template": "fakes_goodSeeingDiff_matchedExp"}
    assert len(listed(root, dataset_types=("calexp",))) == 2


@pytest.mark.parametrize(
    ("name", "science", "template"),
    [
        ("deepDiff_differenceExp", ("calexp",), ("deepDiff_matchedExp", "deepDiff_templateExp")),
        ("difference_image", ("visit_image", "preliminary_visit_image"), ("template_matched", "template_detector")),
        (
            "injected_difference_image_predetection",
            ("injected_visit_image", "injected_preliminary_visit_image"),
            ("injected_template_matched", "injected_template_detector"),
        ),
    ],
)
def test_names_of_siblings(name, science, template):
    assert sibling_types(name) == {"science": science, "template": template}
    assert sibling_types("calexp") == {}


def test_the_first_collection_wins_and_without_order_it_is_an_error(rubin_night, tmp_path):
    root = make_repository(tmp_path / "repo")
    files = sorted(rubin_night.glob("differenceExp*_000.fits"))
    ingest(root, files, run="runs/one")
    ingest(root, files, run="runs/two")
    message = refused("ambiguous", root)
    assert "difference_image of runs/one and difference_image of runs/two" in message
    for order in (("runs/one", "runs/two"), ("runs/two", "runs/one")):
        assert all(f"/{order[0]}/" in source.uri for source in listed(root, collections=order))


def test_a_dataset_without_its_file_is_quarantined_and_not_missing(rubin_night, tmp_path):
    root = make_repository(tmp_path / "repo")
    refs = ingest(root, sorted(rubin_night.glob("differenceExp*_000.fits")))
    with Butler.from_config(root, writeable=True) as butler:
        butler.pruneDatasets([refs[0]], disassociate=False, unstore=True)
    gone, there = listed(root)
    assert probe(there, Settings()).visit == refs[1].dataId["visit"]
    with pytest.raises(BadInput) as caught:
        probe(gone, Settings())
    assert caught.value.code == "unreadable_file"
    assert str(refs[0].id) in str(caught.value)


def test_datasets_in_a_zip_file_are_read_in_place(repository, rubin_night, tmp_path):
    with Butler.from_config(repository) as butler:
        refs = butler.query_datasets("difference_image", collections="*", find_first=False)
        packed = butler.retrieve_artifacts_zip(refs, destination=tmp_path / "packed")
    root = make_repository(tmp_path / "repo")
    with Butler.from_config(root, writeable=True) as butler:
        for file in rubin_night.glob("differenceExp*"):
            insert_records(butler, fits.getheader(file))
        butler.registry.registerDatasetType(refs[0].datasetType)
        butler.registry.registerRun("runs/one")
        butler.ingest_zip(packed, transfer="copy")
    sources = listed(root)
    assert all(source.uri.startswith("zip://") for source in sources)
    whole = [prepare(source, Settings())[1]["difference"].tobytes() for source in listed(repository)]
    assert [prepare(source, Settings())[1]["difference"].tobytes() for source in sources] == whole


def test_a_datastore_may_point_into_a_bucket(rubin_night, tmp_path, monkeypatch):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, endpoint)
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    forget_stores()
    try:
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="night")
        file = min(rubin_night.glob("differenceExp*"))
        root = make_repository(tmp_path / "repo")
        ingest(root, [file], transfer="direct")
        client.upload_file(str(file), "night", f"raw/{file.name}")
        with sqlite3.connect(root / "gen3.sqlite3") as registry:
            registry.execute("update file_datastore_records set path = ?", (f"s3://night/raw/{file.name}",))
        registry.close()
        (remote,) = listed(root)
        assert remote.uri == f"s3://night/raw/{file.name}"
        (local,) = list_sources([str(file)], Settings())
        assert probe(remote, Settings()) == probe(local, Settings())
    finally:
        server.stop()
        forget_stores()


def test_errors_say_what_is_wrong_and_what_to_do(repository, tmp_path):
    nowhere = refused("no_such_repository", tmp_path / "nowhere")
    assert "there is no butler.yaml, and no alias of this name. To fix, name the folder" in nowhere
    assert "Error" not in nowhere
    assert "butler.yaml" in refused("no_such_repository", tmp_path)
    assert "secret" not in refused("credentials_in_url", "https://ann:secret@host/repo")
    assert "No collection with name 'nope'" in refused("bad_query", repository, collections=("nope",))
    assert "Unrecognized identifier 'vist'" in refused("bad_query", repository, where="vist = 3")
    assert "End of input reached" in refused("bad_query", repository, where="visit = ")
    assert "where 'visit = 3'" in refused("no_exposures", repository, where="visit = 3")
    assert "no dataset of type deep*" in refused("no_exposures", repository, dataset_types=("deep*",))
    assert "no dataset of type other" in refused("no_exposures", repository, dataset_types=("other",))


def test_without_the_extra_it_says_what_to_install(repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "lsst.daf.butler", None)
    assert "pip install 'nightstride[butler]'" in refused("butler_not_installed", repository)


def test_options_of_the_command_reach_the_query(repository, tmp_path):
    done = nightstride(
        "run", f"butler:{repository}", "--out", tmp_path, "--where", "visit = 3", "--collections", "runs/one, runs/one",
        "--dataset-type", "difference_image,*_differenceExp",
    )  # fmt: skip
    assert done.code == 2
    asked = "no dataset of type difference_image or *_differenceExp where 'visit = 3' in runs/one, runs/one"
    assert asked in done.stderr


def test_options_of_a_repository_without_one_are_refused(rubin_night, tmp_path):
    done = nightstride("run", rubin_night, "--out", tmp_path / "out", "--where", "visit = 3")
    assert done.code == 2
    assert "none is among" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_in_parts_or_behind_addresses_that_expire_is_refused():
    ref = SimpleNamespace(datasetType=SimpleNamespace(name="difference_image"))
    for uri, code in (
        (None, "disassembled"),
        (ResourcePath("https://server/a.fits"), "remote_butler"),
        (ResourcePath("http://server/a.fits"), "remote_butler"),
    ):
        with pytest.raises(Misconfigured, match="retrieve-artifacts") as caught:
            _address(uri, ref, "butler:repo")
        assert (caught.value.code, caught.value.where) == (code, "butler:repo")
    assert _address(ResourcePath("s3://bucket/a.fits"), ref, "butler:repo") == "s3://bucket/a.fits"
