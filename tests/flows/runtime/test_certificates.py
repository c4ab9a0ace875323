import logging
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from flows.cli.doctor import check_certificates
from flows.nights.cluster.security import security_of
from flows.runtime.certificates import days_left, require_valid
from flows.runtime.metrics import metrics_server
from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured
from schemas.observe_settings import ObserveSettings
from schemas.settings import Settings
from tests.support.certificates import certificate

END = datetime(2040, 1, 1, tzinfo=UTC)


def test_of_a_chain_the_first_counts_and_of_authorities_the_last_to_end(tmp_path):
    new, _ = certificate(tmp_path, END, "new")
    old, _ = certificate(tmp_path, END - timedelta(days=10), "old")
    node, _ = certificate(tmp_path, END - timedelta(days=20), "node", issuer="new")
    for name, parts, days in (("chain", (node, new), -17), ("authorities", (old, new), 3), ("one", (old,), -7)):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        assert days_left(path, END - timedelta(days=3)) == days
    with pytest.raises(ValueError, match="PEM"):
        days_left(tmp_path / "new.key", END)


@pytest.mark.parametrize(
    ("days", "warned"), [(-1e-4, None), (0.0, True), (0.5, True), (29.9, True), (30.0, False), (400, False)]
)
def test_what_has_ended_is_refused_and_what_will_soon_is_warned_of(tmp_path, caplog, days, warned):
    path, _ = certificate(tmp_path, END)
    now = END - timedelta(days=days)
    if warned is None:
        with pytest.raises(Misconfigured, match=r"ended 0 days ago\. To fix, have its authority renew it") as caught:
            require_valid("cluster.tls_cert", path, now)
        assert (caught.value.code, caught.value.where) == ("certificate_expired", "cluster.tls_cert")
        return
    with caplog.at_level(logging.WARNING):
        require_valid("cluster.tls_cert", path, now)
    assert (f"ends in {days:.0f} days" in caplog.text) is warned


def test_wherever_one_is_used_its_end_is_told(tmp_path):
    past, key = certificate(tmp_path, datetime(2001, 1, 1, tzinfo=UTC))
    cluster = ClusterSettings(kind="address", address="tls://there:1", tls_ca=past, tls_cert=past, tls_key=key)
    observe = ObserveSettings(metrics="127.0.0.1:0", metrics_cert=past, metrics_key=key)
    for use in (lambda: security_of(cluster), lambda: metrics_server(observe, CollectorRegistry()).__enter__()):
        with pytest.raises(Misconfigured, match=f"{past} ended .* days ago") as caught:
            use()
        assert caught.value.code == "certificate_expired"


def test_the_doctor_looks_at_all_that_the_settings_name(tmp_path):
    good, key = certificate(tmp_path, END)
    cluster = ClusterSettings(
        kind="address", address="tls://there:1", tls_ca=good, tls_cert=tmp_path / "no", tls_key=key
    )
    observe = ObserveSettings(metrics="127.0.0.1:0", metrics_cert=good, metrics_key=key, metrics_ca=key)
    settings = Settings(cluster=cluster, observe=observe)
    for days, verdict in ((100, "pass"), (3, "warn"), (-3, "fail")):
        found = {one.name: one for one in check_certificates(settings, END - timedelta(days=days))}
        assert {name: one.verdict for name, one in found.items()} == {
            "cluster.tls_ca": verdict, "cluster.tls_cert": "fail", "observe.metrics_cert": verdict,
            "observe.metrics_ca": "fail",
        }  # fmt: skip
        assert all((one.remedy == "") is (one.verdict == "pass") for one in found.values())
    assert list(check_certificates(Settings(), END)) == []
