"""Files of alerts; the commands on them: tests/flows/cli/test_alerts.py."""

import json
import math

import fastavro
import numpy as np
import pytest
from astropy.io import fits

from flows.publish.alert_file import read_alerts, shown, validate_alerts
from flows.publish.container import write_container
from flows.publish.rubin_schema import deserialise, parsed
from flows.publish.wire import message_of
from schemas.errors import BadInput
from tests.support.packets import packet


def picture(shape=(3, 5)):
    header = fits.Header({"BUNIT": "nJy"})
    return fits.PrimaryHDU(np.zeros(shape, np.float32), header)


def content_of(hdu):
    from io import BytesIO

    file = BytesIO()
    fits.HDUList([hdu]).writeto(file)
    return file.getvalue()


FITS = content_of(picture())


def judged(folder, **fields):
    (folder / "one").write_bytes(message_of(packet(5, **fields)))
    return validate_alerts([folder / "one"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ra": 0.0, "dec": -90.0}, ""), ({"ra": 359.999, "dec": 90.0}, ""), ({"ra": 360.0}, "position"),
        ({"ra": -0.001}, "position"), ({"dec": 90.001}, "position"), ({"dec": -90.001}, "position"),
        ({"ra": math.nan}, "position"), ({"midpointMjdTai": math.inf}, "time"), ({"midpointMjdTai": math.nan}, "time"),
        ({"timeProcessedMjdTai": math.nan}, "time"), ({"reliability": 0.0}, ""), ({"reliability": 1.0}, ""),
        ({"reliability": 1.5}, "reliability"), ({"reliability": -0.5}, "reliability"), ({"reliability": None}, ""),
    ],
)  # fmt: skip
def test_what_the_schema_allows_and_no_alert_may_have(tmp_path, fields, reason):
    found = judged(tmp_path, **fields)
    assert (found.files, found.valid, found.invalid) == (1, int(not reason), int(bool(reason)))
    assert [one.split(":")[0] for one in found.reasons] == [reason] * bool(reason)
    assert found.values()["schemas"] == {"11.1": 1}


@pytest.mark.parametrize(
    ("content", "good"),
    [(FITS, True), (None, True), (FITS[:-1], False), (FITS + b" ", False), (b" " * 2880, False), (b"", False)],
)
def test_a_cutout_is_whole_blocks_of_fits(tmp_path, content, good):
    from flows.publish.alert_file import AlertRead, _fault

    record = deserialise(packet(5).body, "11.1")
    for name in ("cutoutDifference", "cutoutScience", "cutoutTemplate"):
        fault = _fault(AlertRead("11.1", record | {name: content}))
        assert fault == (None if good else f"{name}: is not a FITS file")
    assert _fault(AlertRead("ztf.alert", {})) is None  # read by the schema of its own file


def test_files_are_counted_and_the_reasons_of_each(tmp_path):
    (tmp_path / "short").write_bytes(b"\0" * 4)
    (tmp_path / "good").write_bytes(message_of(packet(6)))
    (tmp_path / "odd").write_bytes(message_of(packet(5, ra=400.0)))
    found = validate_alerts([tmp_path / "odd", tmp_path / "odd", tmp_path / "good", tmp_path / "short"])
    assert (found.files, found.valid, found.invalid) == (4, 1, 3)
    assert sorted(found.reasons.values()) == [1, 2]
    with pytest.raises(BadInput, match="holds no alerts: it begins with"):
        list(read_alerts(tmp_path / "short"))


def test_bytes_are_shown_in_words_and_nothing_is_left_out():
    record = {"id": 5, "none": None, "cutout": FITS, "raw": b"x" * 1234, "source": {"a": None, "b": [1, None, FITS]}}
    words = "FITS, 5 x 3 px, nJy, 5,760 bytes"
    assert shown(record) == {
        "id": 5, "cutout": words, "raw": "1,234 bytes", "source": {"b": [1, None, words]},
    }  # fmt: skip
    odd = json.dumps(shown({"a": math.nan, "b": [-math.inf], "c": {"d": 1.5}}), allow_nan=False)
    assert json.loads(odd) == {"a": "nan", "b": ["-inf"], "c": {"d": 1.5}}
    assert shown({"bare": FITS[:2880].replace(b"NAXIS1", b"NOXIS1")}) == {"bare": "2,880 bytes"}


def test_a_container_holds_alerts_of_the_schema_that_it_names(tmp_path):
    path = tmp_path / "7.avro"
    write_container(path, parsed("11.1"), [packet(n).body for n in (5, 6)])
    found = list(read_alerts(path))
    assert [one.schema for one in found] == ["11.1"] * 2
    assert [one.record for one in found] == [deserialise(packet(n).body, "11.1") for n in (5, 6)]
    write_container(path, parsed("11.1"), [])
    with pytest.raises(BadInput, match="holds no alerts") as caught:
        list(read_alerts(path))
    assert caught.value.code == "no_alerts"
    assert validate_alerts([path]).values()["invalid"] == 1


def test_a_container_of_numbers_holds_no_alerts(tmp_path):
    with (tmp_path / "numbers.avro").open("wb") as file:
        fastavro.writer(file, {"type": "long"}, [5])
    with pytest.raises(BadInput, match="holds no records") as caught:
        list(read_alerts(tmp_path / "numbers.avro"))
    assert caught.value.code == "damaged_alert"
