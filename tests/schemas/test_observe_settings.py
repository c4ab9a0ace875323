from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.observe_settings import ObserveSettings


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:80", ("::1", 80)),
        ("node-3.site:1", ("node-3.site", 1)),
        ("65535", ("127.0.0.1", 65535)),
        (None, None),
    ],
)
def test_without_a_host_figures_stay_on_this_machine(given, address):
    assert ObserveSettings(metrics=given).address == address


@pytest.mark.parametrize(
    "given", ["", "host", "host:", ":9464", "host:99999", "65536", "http://host:1", "user:pw@host:1"]
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ValidationError, match="must be PORT or HOST:PORT"):
        ObserveSettings(metrics=given)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"metrics": "1", "metrics_cert": "a"}, "go together"),
        ({"metrics": "1", "metrics_key": "a"}, "go together"),
        ({"metrics": "1", "metrics_ca": "a"}, "metrics_ca needs"),
        ({"metrics_cert": "a", "metrics_key": "b"}, "needs metrics"),
        ({"metrics_file": "figures.txt"}, r"must end in \.prom"),
        ({"log_format": "xml"}, "text"),
        ({"metrics_token_file": Path("a")}, "metrics_token_file needs metrics"),
    ],
)
def test_what_does_not_fit_is_refused(given, rule):
    with pytest.raises(ValidationError, match=rule):
        ObserveSettings(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"metrics": "127.0.0.1:1"},
        {"metrics": "127.0.0.1:1", "metrics_cert": Path("a"), "metrics_key": Path("b")},
        {"metrics": "127.0.0.1:1", "metrics_cert": Path("a"), "metrics_key": Path("b"), "metrics_ca": Path("c")},
        {"metrics": "127.0.0.1:1", "metrics_token_file": Path("a")},
        {"metrics_file": Path("a.prom"), "log_format": "json"},
    ],
)
def test_what_fits_is_kept_as_it_is(given):
    assert ObserveSettings(**given).model_dump(exclude_unset=True) == given


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        ObserveSettings().log_format = "json"


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="surprise"):
        ObserveSettings(surprise=1)


def test_nothing_is_told_unless_asked():
    plain = ObserveSettings()
    assert (plain.address, plain.metrics_file, plain.log_format) == (None, None, "text")
    assert ObserveSettings(metrics_file="a/b.prom").metrics_file == Path("a/b.prom")
