from flows.commands.observe_options import observe_overrides
from flows.settings_file import load_settings


def test_options_go_before_the_environment_and_what_is_not_given_does_not(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_OBSERVE__METRICS", "1111")
    monkeypatch.setenv("NIGHTSTRIDE_OBSERVE__LOG_FORMAT", "json")
    found = load_settings(overrides=observe_overrides("2222", None, None)).observe
    assert (found.address, found.metrics_file, found.log_format) == (("127.0.0.1", 2222), None, "json")
