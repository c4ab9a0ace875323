"""A night in an object store, from its exposures to its page."""

import json

import pyarrow.parquet as pq
import pytest

from benchmarks.support.moto_server import KEY, SECRET, put_folder
from flows.storage.bucket_path import located
from flows.storage.compaction import compact
from flows.storage.object_store import configure
from schemas.settings import StoreSettings
from tests.support.cli import nightstride
from tests.support.night import DETECTORS, VISITS, catalogues, fingerprint, without_objects

pytest_plugins = ("tests.support.night_fixture", "tests.support.s3_fixture")
pytestmark = pytest.mark.slow
ALL = VISITS * DETECTORS
of_ceph = pytest.mark.parametrize("server", ["ceph"], indirect=True)
"""For commands that ask a store nothing that a night in it does not: with one of the two servers."""


def published(client, bucket, prefix):
    """Objects below a prefix: name -> bytes."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def fingerprints(files):
    """Return published files of a run as `catalogues` does those of a folder."""
    return {name: fingerprint(content) for name, content in files.items()}


@pytest.fixture(scope="module")
def bucket(server, raw_night):
    name = server.new_bucket()
    put_folder(server.client, name, raw_night, "raw")
    return name


@pytest.fixture(scope="module")
def night(server, bucket, nightstride_run):
    """A run from bucket to bucket."""
    return nightstride_run(f"s3://{bucket}/raw", "--out", f"s3://{bucket}/out", **server.environment)


def test_catalogues_are_those_of_a_local_run(server, bucket, night, uninterrupted):
    assert night.code == 0, night.stderr
    assert night.counts == (ALL, ALL, 0, 0, 0)
    assert fingerprints(published(server.client, bucket, "out/catalogs/")) == without_objects(
        catalogues(uninterrupted[1])
    )
    assert "is in an object store" in night.summary["not_run"]["gather_dia_objects"]
    assert night.summary["report"].startswith(f"s3://{bucket}/out/reports/")
    names = published(server.client, bucket, "out/")
    assert f"{night.summary['report'].removeprefix(f's3://{bucket}/out/')}" in names
    assert not [name for name in names if name.startswith(("staging/", "lease"))]


def test_second_run_does_no_work(server, bucket, night, nightstride_run):
    before = published(server.client, bucket, "out/")
    again = nightstride_run.here(
        f"s3://{bucket}/raw", "--out", f"s3://{bucket}/out", PREFECT_API_URL="http://127.0.0.1:9/none",
        **server.environment,
    )  # fmt: skip
    assert (again.code, again.counts) == (0, (ALL, 0, ALL, 0, 0)), again.stderr
    assert published(server.client, bucket, "out/") == before


def test_no_secret_is_written_anywhere(server, bucket, night):
    texts = [night.stdout, night.stderr]
    texts += [content.decode("latin-1") for content in published(server.client, bucket, "out/").values()]
    assert not [text[:200] for text in texts if SECRET in text or KEY in text]


@of_ceph
def test_other_commands_read_it(server, bucket, night, raw_night, tmp_path):
    out = f"s3://{bucket}/out"
    verified = nightstride("verify", out, "--json", **server.environment)
    assert verified.code == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout.splitlines()[-1])["exposures"] == ALL
    truth = raw_night.parent / "truth.parquet"
    evaluated = nightstride("evaluate", "detect", out, "--truth", truth, "--json", **server.environment)
    assert evaluated.code == 0, evaluated.stderr
    target = pq.read_table(raw_night.parent / "truth.parquet").to_pylist()[0]
    (tmp_path / "targets.csv").write_text(f"name,ra,dec\none,{target['ra']},{target['dec']}\n")
    forced = nightstride("forced", tmp_path / "targets.csv", "--out", out, "--json", **server.environment)
    assert forced.code == 0, forced.stderr
    assert json.loads(forced.stdout.splitlines()[-1])["exposures"] == ALL
    report = nightstride("report", out, "--truth", truth, **server.environment)
    assert report.code == 0, report.stderr
    exported = nightstride("export", out, "--dataset", "dia_source", "--to", tmp_path / "d.vot", **server.environment)
    assert exported.code == 0, exported.stderr


def of_run(files):
    """Leave out what another command made and a damaged exposure loses with its pixels."""
    return fingerprints({name: files[name] for name in files if not name.startswith("forced_source/")})


@of_ceph
def test_damage_is_found_and_made_good(server, bucket, night, nightstride_run):
    """In a copy of the night: a catalogue is changed, one removed, a shard is lost; verify tells, a run mends."""
    client, name = server.client, server.new_bucket()
    for key in published(client, bucket, "out/"):
        client.copy_object(Bucket=name, Key=f"out/{key}", CopySource={"Bucket": bucket, "Key": f"out/{key}"})
    whole = published(client, name, "out/catalogs/")
    first, second = [key for key in whole if key.startswith("dia_source/")][:2]
    client.put_object(Bucket=name, Key=f"out/catalogs/{first}", Body=whole[first][:-100])
    client.delete_object(Bucket=name, Key=f"out/catalogs/{second}")
    shard = next(key for key in published(client, name, "out/tiles/") if "/difference/c/" in key)
    client.delete_object(Bucket=name, Key=f"out/tiles/{shard}")
    verified = nightstride("verify", f"s3://{name}/out", "--json", **server.environment)
    problems = {one["code"] for one in json.loads(verified.stdout.splitlines()[-1])["problems"]}
    assert verified.code == 1
    assert problems == {"unreadable_catalogue", "damaged_tiles"}
    mended = nightstride_run(f"s3://{bucket}/raw", "--out", f"s3://{name}/out", **server.environment)
    assert mended.code == 0, mended.stderr
    assert of_run(published(client, name, "out/catalogs/")) == of_run(whole)


@of_ceph
def test_joined_catalogues_are_read_as_before(server, bucket, night, nightstride_run, tmp_path, monkeypatch):
    """Last in this file: catalogues are not single objects any more."""
    out = f"s3://{bucket}/out"

    def rows():
        done = nightstride("export", out, "--dataset", "dia_source", "--to", tmp_path / "d.csv", **server.environment)
        assert done.code == 0, done.stderr
        return sorted((tmp_path / "d.csv").read_text().splitlines())

    before = rows()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=server.endpoint))
    try:
        (label,) = night.summary["nights"]
        assert compact(located(out), label, 2, lambda fill, *folders: fill(*folders)) > 0
    finally:
        configure(StoreSettings())
    assert rows() == before
    assert nightstride("verify", out, **server.environment).code == 0
    again = nightstride_run.here(f"s3://{bucket}/raw", "--out", out, **server.environment)
    assert (again.code, again.counts) == (0, (ALL, 0, ALL, 0, 0)), again.stderr
