import logging
import os
from datetime import timedelta

import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError, PermissionDeniedError

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from benchmarks.support.moto_server import KEY, SECRET, free_port
from flows.inputs.sources import list_sources
from flows.runtime.secrets import refuse_credentials
from flows.storage import object_store as module
from flows.storage.bucket_path import BucketPath, located
from flows.storage.object_store import _reason, _store, configure, configured, patiently, store_failures
from schemas.errors import Misconfigured, Retryable
from schemas.settings import Settings, StoreSettings

pytest_plugins = ("tests.support.s3_fixture",)


@pytest.fixture
def through(moto, monkeypatch):
    """Make a folder in a store behind a proxy with the given faults."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    proxies = []

    def make(**faults):
        proxy = FaultProxy("127.0.0.1", moto.port, Faults(**faults)).__enter__()
        proxies.append(proxy)
        configure(StoreSettings(endpoint=proxy.endpoint, timeout_s=20, patience_s=60))
        return located(f"s3://{moto.new_bucket()}/out"), proxy

    yield make
    for proxy in proxies:
        proxy.__exit__()
    configure(StoreSettings())


@pytest.mark.parametrize(
    "faults", [{"refuse": 3}, {"cut": 3}, {"cut_request": 2}, {"latency_s": 0.05}, {"refuse": 5, "cut": 4}]
)
def test_disturbed_requests_are_tried_again(through, faults):
    out, proxy = through(**faults)
    contents = {f"{n}.bin": os.urandom(1000 + 50_000 * n) for n in range(12)}
    for name, content in contents.items():
        (out / name).write(content)
    assert {path.name: path.read_bytes() for path in out.rglob("*")} == contents
    (out / "3.bin").unlink()
    assert not (out / "3.bin").exists()
    happened = proxy.faults.done
    assert happened["requests"] > 24
    assert all(
        happened[name] for name in ("refused", "cut", "cut_request") if faults.get(name.replace("refused", "refuse"))
    )


def test_what_is_cut_while_it_is_sent_is_not_there(moto, through):
    """Every put is cut: nothing of it may be seen, by those who do not pass the proxy either."""
    out, proxy = through(cut_request=1)
    configure(StoreSettings(endpoint=proxy.endpoint, timeout_s=5, patience_s=1))
    with pytest.raises(Retryable):
        (out / "x").write(b"x" * 100_000)
    found = moto.client.list_objects_v2(Bucket=out.parts[1])
    assert found["KeyCount"] == 0


def test_a_store_that_does_not_answer_is_retryable_in_bounded_time(monkeypatch, moto):
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=f"http://127.0.0.1:{free_port()}", timeout_s=2, patience_s=1))
    with pytest.raises(Retryable, match="Connection refused") as caught:
        located("s3://bucket/out").joinpath("x").read_bytes()
    assert "try again later" in str(caught.value)
    configure(StoreSettings())


def test_wrong_keys_are_told_without_them(monkeypatch, caplog):
    theirs = ValueError(
        f"Client error with status 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>"
        f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign></Error>"
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(Misconfigured) as caught, store_failures("s3://bucket/x"):
        raise theirs
    assert caught.value.code == "access_denied"
    assert "SignatureDoesNotMatch" in str(caught.value)
    for text in (str(caught.value), repr(caught.value), caplog.text):
        assert KEY not in text
        assert SECRET not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.slow
@pytest.mark.services
def test_a_real_gateway_refuses_wrong_keys(ceph, monkeypatch, capfd):
    wrong = "wrongWRONGwrongWRONG"
    for name, value in (ceph.environment | {"AWS_SECRET_ACCESS_KEY": wrong}).items():
        monkeypatch.setenv(name, value)
    configure(StoreSettings(endpoint=ceph.endpoint, patience_s=5))
    bucket = ceph.new_bucket()
    with pytest.raises(Misconfigured) as caught:
        located(f"s3://{bucket}/out").joinpath("x").write(b"")
    assert caught.value.code == "access_denied"
    with pytest.raises(Misconfigured) as of_input:
        list_sources([f"s3://{bucket}/raw"], Settings())
    told = f"{caught.value} {of_input.value} {''.join(capfd.readouterr())}"
    assert wrong not in told
    assert KEY not in told
    configure(StoreSettings())


def test_no_keys_and_no_profile_are_told(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for profile, code in ((None, "no_credentials"), ("observatory", "no_profile")):
        configure(StoreSettings(profile=profile))
        with pytest.raises(Misconfigured) as caught:
            located("s3://bucket/out").joinpath("x").read_bytes()
        assert caught.value.code == code
    configure(StoreSettings())


def test_a_profile_holds_keys(moto, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "keys").write_text(f"[observatory]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    configure(StoreSettings(endpoint=moto.endpoint, profile="observatory"))
    path = located(f"s3://{moto.new_bucket()}/out") / "x"
    path.write(b"content")
    assert path.read_bytes() == b"content"
    configure(StoreSettings())


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bucket/out",
        f"https://user:{SECRET}@host/x.fits",
        f"https://host/x.fits?X-Amz-Credential={KEY}&X-Amz-Signature={SECRET}",
    ],
)
def test_credentials_in_urls_are_refused_and_not_repeated(url):
    for refuse in (
        lambda: refuse_credentials(url, "here"),
        lambda: located(url),
        lambda: list_sources([url], Settings()),
        lambda: configure(StoreSettings(endpoint=url)),
    ):
        with pytest.raises(Misconfigured) as caught:
            refuse()
        assert SECRET not in str(caught.value)
        assert caught.value.code == "credentials_in_url"


def test_an_endpoint_must_be_a_url():
    with pytest.raises(Misconfigured, match="is not a URL"):
        configure(StoreSettings(endpoint="host:9000"))


def test_settings_of_the_environment_hold_where_nobody_sets_others(monkeypatch):
    monkeypatch.setattr("flows.storage.object_store._current", None)
    monkeypatch.setenv("NIGHTSTRIDE_STORE__ENDPOINT", "http://127.0.0.1:1")
    assert configured().endpoint == "http://127.0.0.1:1"
    configure(StoreSettings())


def test_the_region_is_that_of_the_settings_then_of_the_environment(monkeypatch):
    def region(**given):
        return _store.__wrapped__("bucket", StoreSettings(**given)).config["region"]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert region() == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert region() == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert region() == "eu-west-2"
    assert region(region="eu-west-3") == "eu-west-3"


def test_failures_of_other_kinds_pass(bucket):
    with pytest.raises(KeyError), store_failures("s3://bucket/x"):
        _ = {}["x"]
    assert isinstance(bucket, BucketPath)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (NotFoundError("<Code>NoSuchKey</Code>"), FileNotFoundError, None),
        (NotFoundError("<Code>NoSuchBucket</Code>"), Misconfigured, "no_bucket"),
        (GenericError("404 <Code>NoSuchBucket</Code>"), Misconfigured, "no_bucket"),
        (GenericError("403 Forbidden"), Misconfigured, "access_denied"),
        (GenericError("503 Slow Down"), Retryable, "object_store"),
        (AlreadyExistsError("x"), FileExistsError, None),
        (PermissionDeniedError("x"), Misconfigured, "access_denied"),
    ],
)
def test_failures_of_a_store_are_told_by_their_kind(error, kind, code):
    with pytest.raises(kind) as caught, store_failures("s3://bucket/x"):
        raise error
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(("patience", "waits"), [(1, [1.0]), (0, []), (3, [1.0, 2.0]), (2, [1.0])])
def test_what_may_pass_is_tried_again_while_the_next_wait_ends_within_the_patience(monkeypatch, patience, waits):
    waited = []

    def fail():
        raise GenericError("cut")

    monkeypatch.setattr(module, "monotonic", lambda: sum(waited))
    monkeypatch.setattr(module, "sleep", waited.append)
    monkeypatch.setattr(module, "_FIRST_WAIT", timedelta(seconds=1))
    configure(StoreSettings(patience_s=patience))
    with pytest.raises(Retryable):
        patiently("s3://bucket/x", fail)
    assert waited == waits
    assert patiently("s3://bucket/x", lambda: 5) == 5
    configure(StoreSettings())


def test_the_endpoint_is_that_of_the_settings_then_of_the_environment(monkeypatch):
    def place(**given):
        found = _store.__wrapped__("bucket", StoreSettings(**given)).config
        return found.get("endpoint"), found.get("virtual_hosted_style_request")

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert place() == (None, None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
    assert place()[0] == "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    assert place()[0] == "http://127.0.0.1:2"
    assert place(endpoint="http://127.0.0.1:3")[0] == "http://127.0.0.1:3"
    assert str(place()[1]).lower() == "false"


def test_a_gateway_may_be_without_tls_and_removes_objects_one_by_one(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = _store.__wrapped__("bucket", StoreSettings(endpoint="http://127.0.0.1:1"))
    assert str(found.config["disable_bulk_delete"]).lower() == "true"
    assert str(found.client_options["allow_http"]).lower() == "true"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Client error 403 Forbidden: <Code>AccessDenied</Code> key=abc", "403 Forbidden, AccessDenied"),
        ("error: CONNECTION REFUSED, then operation timed out", "timed out, Connection refused"),
        ("signature=abc", "ValueError"), ("", "ValueError"), ("<Code>Slow Down</Code>", "ValueError"),
    ],
)  # fmt: skip
def test_of_a_failure_nothing_is_told_but_its_kind(text, told):
    assert _reason(ValueError(text)) == told
