"""Inputs in an object store."""

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from flows.adapters.object_store import configure
from flows.adapters.sources import list_sources
from flows.ingest import prepare
from schemas.settings import Settings, StoreSettings


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of an S3 server of our own."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="night")
    configure(StoreSettings())  # whatever store an earlier test was set up for
    S3FileSystem.clear_instance_cache()
    yield client
    S3FileSystem.clear_instance_cache()
    server.stop()


def test_exposure_in_a_bucket_equals_the_local_one(bucket, write_ztf):
    path = write_ztf()
    bucket.upload_file(path, "night", "raw/one.fits")
    (remote,) = list_sources(["s3://night/raw"], Settings())
    (local,) = list_sources([path], Settings())
    there, pixels = prepare(remote, Settings())
    here, expected = prepare(local, Settings())
    assert there.source_uri == "s3://night/raw/one.fits"
    assert there.model_copy(update={"source_uri": here.source_uri}) == here
    np.testing.assert_array_equal(pixels["difference"], expected["difference"])
