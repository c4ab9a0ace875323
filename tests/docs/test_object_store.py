"""The policy on the page is enough, and no more than is said."""

import json
import re
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from flows.inputs.files import read_bytes
from flows.inputs.sources import list_sources
from flows.storage.atomic import new_folder, remove, write_file, write_record
from flows.storage.bucket_path import files_below, located
from flows.storage.lease import lease
from flows.storage.object_store import configure
from schemas.errors import Misconfigured
from schemas.settings import Settings, StoreSettings
from tests.support.s3 import WORKER_KEY, WORKER_SECRET

pytest_plugins = ("tests.support.s3_fixture",)
PAGE = Path(__file__).parents[2] / "docs/operate/object_stores.md"
(POLICY,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
(SETTINGS,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_settings_are_settings():
    import tomllib

    told = tomllib.loads(SETTINGS)["store"]
    assert told.keys() == StoreSettings.model_fields.keys()
    defaults = StoreSettings()
    given = StoreSettings(**told)
    assert (given.timeout_s, given.patience_s) == (defaults.timeout_s, defaults.patience_s)


@pytest.fixture
def bucket(ceph, monkeypatch):
    """A bucket of somebody else, who grants the policy of the page."""
    name = ceph.new_bucket()
    policy = json.loads(POLICY.replace("arn:aws:s3:::bucket", f"arn:aws:s3:::{name}"))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": ["arn:aws:iam:::user/worker"]}
    ceph.client.put_object(Bucket=name, Key="night/one.fits", Body=b"SIMPLE  =")
    ceph.client.put_object(Bucket=name, Key="other/two.fits", Body=b"SIMPLE  =")
    ceph.client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    keys = {"AWS_ACCESS_KEY_ID": WORKER_KEY, "AWS_SECRET_ACCESS_KEY": WORKER_SECRET}
    for variable, value in (ceph.environment | keys).items():
        monkeypatch.setenv(variable, value)
    S3FileSystem.clear_instance_cache()  # those of the same endpoint have the keys of other tests
    configure(StoreSettings(endpoint=ceph.endpoint, patience_s=10))
    yield name
    S3FileSystem.clear_instance_cache()
    configure(StoreSettings())


@pytest.mark.slow
@pytest.mark.services
def test_the_policy_is_enough(bucket):
    (source,) = list_sources([f"s3://{bucket}/night"], Settings())
    assert read_bytes(source.uri) == b"SIMPLE  ="
    out = located(f"s3://{bucket}/out")
    version = None
    with lease(out):
        for content in (b"one", b"two"):
            version = write_record(out / "ledger/x.json", content, out, version)
            assert (out / "ledger/x.json").read_bytes() == content
            with new_folder(out / "tiles/n/x.zarr") as folder:
                (folder / "zarr.json").write_bytes(content)
        write_file(out / "catalogs/x.parquet", b"x", out / "staging")
        assert len(files_below(out)) == 4
        for name in ("ledger/x.json", "tiles/n/x.zarr", "catalogs/x.parquet"):
            remove(out / name)
    assert files_below(out) == []


@pytest.mark.slow
@pytest.mark.services
def test_the_policy_allows_nothing_else(bucket):
    for attempt in (
        lambda: located(f"s3://{bucket}/night").joinpath("x").write(b""),
        lambda: located(f"s3://{bucket}/other").joinpath("two.fits").read_bytes(),
        lambda: remove(located(f"s3://{bucket}/night/one.fits")),
    ):
        with pytest.raises(Misconfigured) as caught:
            attempt()
        assert caught.value.code == "access_denied"
