"""Files of a report as they are written and read; what is in a line of 80 columns: test_ades_record.py."""

from dataclasses import replace

import pytest

from flows.publish.ades_files import (
    _sexagesimal,
    _text,
    as_obs80,
    as_psv,
    as_xml,
    is_xml,
    read_document,
    read_text,
    written,
)
from schemas.errors import BadInput, Misconfigured
from tests.support.ades_blocks import CONTEXT, block

HEAD = "# version=2022\n# observatory\n! mpcCode I41\n"


def code_of(function, *args):
    with pytest.raises(BadInput) as caught:
        function(*args)
    return caught.value.code


def refused(text):
    with pytest.raises(BadInput) as caught:
        read_text("a report", text)
    assert caught.value.where == "a report"
    return caught.value.code, caught.value.problem


def shape(document):
    """Blocks as nested (name, line, text, parts)."""

    def of(one):
        return one.name, one.line, one.text.strip(), [of(part) for part in one.parts]

    return [of(one) for one in document.blocks]


def test_a_report_has_observations_of_one_station():
    context, rows = block()
    for form in ("psv", "xml", "obs80"):
        assert code_of(written, context, [], form) == "no_observations"
        assert code_of(written, context, [rows[0], replace(rows[1], stn="W84")], form) == "two_stations"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.22, "1.22"), (0.5, "0.5"), (100.0, "100"), (12.34567, "12.345"), (999.9, "999.9"), (10.0, "10"), ("x", "x")],
)
def test_numbers_of_the_header_are_short(value, text):
    assert _text(value) == text


@pytest.mark.parametrize(
    ("value", "decimals", "turn", "text"),
    [
        (0.0, 2, 360, "00 00 00.00"), (1.5, 2, 360, "01 30 00.00"), (23.9999999999, 3, 24, "00 00 00.000"),
        (59.999999, 2, 360, "60 00 00.00"), (1 / 3600, 3, 24, "00 00 01.000"), (12.5125, 1, 24, "12 30 45.0"),
    ],
)  # fmt: skip
def test_sexagesimal_values_carry(value, decimals, turn, text):
    assert _sexagesimal(value, decimals, turn) == text


def test_tables_have_the_columns_with_a_value_and_three_always():
    context, rows = block()
    columns = next(line for line in as_psv(context, rows[:1]).splitlines() if line.startswith("permID"))
    assert [one.strip() for one in columns.split("|")][:3] == ["permID", "provID", "trkSub"]
    assert "rmsCorr" in columns
    bare = replace(rows[0], rmsRA="", rmsDec="", rmsCorr="", mag="", rmsMag="", band="", photCat="")
    columns = next(line for line in as_psv(context, [bare]).splitlines() if line.startswith("permID"))
    assert "rms" not in columns and "mag" not in columns and "obsTime" in columns  # noqa: PT018
    assert "<provID>" not in as_xml(context, [bare])


def test_a_header_has_what_is_given():
    context, rows = block()
    for form in (as_psv, as_xml):
        text = form(context, rows)
        for word in ("fundingSource", "comment", "observers", "institution"):
            assert word in text
            given = {"fundingSource": {"funding_source": None}, "comment": {"comments": ()}}
            given |= {"observers": {"observers": ()}, "institution": {"institution": None}}
            assert word not in form(replace(context, **given[word]), rows)
    lines = as_obs80(context, rows).splitlines()
    assert lines[:5] == [
        "COD I41", "CON A. Sender", "OBS D. Observer", "MEA B. Measurer, C. Other", "TEL 1.22-m Schmidt + CCD"
    ]  # fmt: skip
    assert lines[5:9] == ["NET Gaia2", "COM One.", "COM Two.", f"NUM {len(rows)}"]
    ratio = context.telescope.model_copy(update={"f_ratio": 2.44})
    assert "TEL 1.22-m f/2.44 Schmidt + CCD" in as_obs80(replace(context, telescope=ratio), rows)
    assert "OBS" not in as_obs80(replace(context, observers=()), rows)
    assert context == CONTEXT


def test_no_line_of_80_columns_is_longer():
    context, rows = block()
    names = tuple(f"{letter}. Observer-{letter}" for letter in "ABCDEFGHIJ")
    said = "word " * 19 + "end"
    lines = as_obs80(replace(context, observers=names, comments=(said, "x" * 100)), rows).splitlines()
    assert max(map(len, lines)) == 80
    observers = [line for line in lines if line.startswith("OBS ")]
    assert len(observers) == 2
    assert ", ".join(line.removeprefix("OBS ").removesuffix(",") for line in observers) == ", ".join(names)
    comments = [line.removeprefix("COM ") for line in lines if line.startswith("COM ")]
    assert (" ".join(comments[:2]), "".join(comments[2:])) == (said, "x" * 100)


def test_names_of_80_columns_are_short_unless_the_object_is_known():
    context, rows = block()
    for name in ("ab_c", "abcdefgh", "1a", ""):
        assert code_of(as_obs80, context, [replace(rows[0], trkSub=name)]) == "no_80_columns"
        assert as_obs80(context, [replace(rows[3], trkSub=name)]).splitlines()[-1].startswith("00433 ")
    assert as_obs80(context, [replace(rows[0], trkSub="abcdefg")]).splitlines()[-1].startswith("     abcdefg ")


def test_bars_are_read_by_lines():
    text = (
        HEAD
        + "# comment\n! line One | two\n\npermID |trkSub|ra\n  |abc| 1.5 \n433||2|3\n"
        + "# observatory\n! mpcCode W84\n"
    )
    text += "permID|trx\n433|251\npermID|obsCenter\n1|Mars\npermID|raStar\n2|4\n"
    first, second = shape(read_text("a report", text))
    observatory = ("observatory", 2, "", [("mpcCode", 3, "I41", [])])
    comment = ("comment", 4, "", [("line", 5, "One | two", [])])
    assert first[3][0] == ("obsContext", 2, "", [observatory, comment])
    one = ("optical", 8, "", [("trkSub", 8, "abc", []), ("ra", 8, "1.5", [])])
    other = ("optical", 9, "", [("permID", 9, "433", []), ("ra", 9, "2", []), ("column 4", 9, "3", [])])
    assert first[3][1] == ("obsData", 7, "", [one, other])
    assert second[3][0][3] == [("observatory", 10, "", [("mpcCode", 11, "W84", [])])]
    assert [kind for kind, *_ in second[3][1][3]] == ["radar", "offset", "occultation"]
    assert read_text("a report", text).ordered is False


def test_bars_that_are_no_report_are_refused_by_line():
    assert refused("") == refused("\n\n") == ("no_ades", "line 1: does not begin with '# version=2022'.")
    assert refused("\n# observatory\n")[1].startswith("line 2: does not begin")
    assert refused("# version=2022\npermID|ra\n")[1].startswith("line 2: comes before the header")
    assert refused(HEAD + "\nra|dec\n1|2\n")[1].startswith("line 5: the first column must be permID")
    lost = read_text("a report", "# version=2022\n! mpcCode I41\n")
    assert shape(lost)[0][3] == [("obsContext", 2, "", [("mpcCode", 2, "I41", [])])]
    assert read_text("a report", "# version = 2017 \n").version.text == "2017"


def test_xml_is_read_by_lines():
    text = '<?xml version="1.0"?>\n<ades version="2022">words\n<obsBlock version="1">\n<a>b&amp;c<d/>e</a></obsBlock>'
    text += "</ades>"
    document = read_text("a report", text)
    assert (document.version.text, document.version.line, document.ordered) == ("2022", 2, True)
    assert shape(document) == [("obsBlock", 3, "", [("a", 4, "b&ce", [("d", 4, "", [])])])]
    assert document.blocks[0].find("a").name == "a"
    assert document.blocks[0].find("b") is None
    assert document.blocks[0].texts("a") == ["b&ce"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<ades", "unreadable_report"), ("<ades></ads>", "unreadable_report"), ("<report/>", "no_ades"),
        ('<!DOCTYPE ades [<!ENTITY a "b">]><ades>&a;</ades>', "unreadable_report"),
        ("<ades/><ades/>", "unreadable_report"),
    ],
)  # fmt: skip
def test_xml_that_is_no_report_is_refused(text, code):
    assert refused(text)[0] == code


def test_files_are_told_apart_by_their_beginning(tmp_path):
    assert is_xml(" \n<ades/>")
    assert not is_xml("# version=2022 <ades/>")
    path = tmp_path / "report"
    path.write_text("\ufeff" + HEAD, "utf-8")
    assert read_document(path).version.text == "2022"
    path.write_bytes(b"# version=2022 \xff")
    assert code_of(read_document, path) == "unreadable_report"
    with pytest.raises(Misconfigured):
        read_document(tmp_path / "none")
