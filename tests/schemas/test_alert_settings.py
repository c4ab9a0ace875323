"""Rules of where alerts go."""

import pytest
from pydantic import ValidationError

from schemas.alert_settings import AlertSettings


@pytest.mark.parametrize("to", [None, "alerts", "kafka://host:9092/topic", "s3://bucket/alerts"])
def test_alerts_go_nowhere_to_a_folder_a_broker_or_a_bucket(to):
    assert AlertSettings(to=to).to == to


@pytest.mark.parametrize("to", ["kafka://me:secret@host:9092/topic", "s3://key@bucket/alerts"])
def test_a_destination_holds_no_password(to):
    with pytest.raises(ValidationError, match="must hold no password"):
        AlertSettings(to=to)


@pytest.mark.parametrize("registry", [None, "http://host:8081", "https://host/registry/"])
def test_a_registry_is_a_plain_url(registry):
    assert AlertSettings(registry=registry).registry == (registry and registry.rstrip("/"))
    with pytest.raises(ValidationError, match="without user, password and query"):
        AlertSettings(registry="https://me:secret@host")


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="too"):
        AlertSettings(too="alerts")


def test_the_least_side_of_a_cutout_is_not_above_the_largest():
    assert AlertSettings(cutout_min=40, cutout_max=40).cutout_min == 40
    with pytest.raises(ValidationError, match="must not be above cutout_max, got 41 and 40"):
        AlertSettings(cutout_min=41, cutout_max=40)
