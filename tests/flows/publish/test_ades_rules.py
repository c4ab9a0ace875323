import random
import re
from xml.etree import ElementTree

import pytest

from flows.publish.ades_files import as_psv, as_xml, read_document, read_text, written
from flows.publish.ades_rules import SEQUENCES, problems_of
from schemas.errors import BadInput, Misconfigured
from tests.support.ades import REAL, needs_schema
from tests.support.ades_blocks import block


@pytest.fixture(scope="module")
def schema():
    """The published schema, and a validator that is not ours."""
    import xmlschema

    return xmlschema.XMLSchema(str(REAL / "ades" / "xsd" / "submit.xsd"))


@pytest.fixture(scope="module")
def texts():
    return {form: written(*block(), form) for form in ("psv", "xml")}


def said(text):
    return [one.text for one in problems_of(read_text("a report", text))]


@pytest.mark.parametrize("name", ["permID", "obsTime", "ra", "dec", "rmsRA", "mag", "aperture"])
def test_digits_are_those_of_ascii(texts, name):
    root = ElementTree.fromstring(texts["xml"])
    one = next(root.iter(name))
    one.text = one.text.translate({ord("1"): "\u0661", ord("2"): "\u0662", ord("3"): "\u0663"})
    assert not one.text.isascii()
    assert [text.split()[0] for text in said(ElementTree.tostring(root, encoding="unicode"))] == [name]


def test_our_reports_are_valid(texts):
    assert said(texts["psv"]) == said(texts["xml"]) == []


@needs_schema
@pytest.mark.parametrize("name", ["319.psv", "319.xml"])
def test_the_samples_of_the_standard_are_valid(name):
    assert problems_of(read_document(REAL / "ades" / "tests" / "input" / name)) == []


VALUES = {
    "permID": ["0", "1P", "73P-AC", "433", "A1", "(1) 2", "J13", "12I"],
    "provID": ["2014 AA360", "2014 IA", "2001 P-L", "C/1997 BA6", "P/1994 P1-B", "S/2001 U 9", "2014AA", "A801 AA"],
    "trkSub": ["a-b_c", "123456789", "a b", "ünd", "12345678"],
    "mode": ["CMO", "CCDX", "C-D"],
    "stn": ["I4", "I41", "I4100", "I4_1"],
    "obsTime": ["2026-11-03T04:05:06Z", "2026-11-03T04:05:06.1234567Z", "2026-02-30T04:05:06Z", "2026-11-03 04:05:06Z",
                "2016-12-31T23:59:60.5Z", "2015-12-31T23:59:60Z", "2026-11-03T24:00:01Z", "2026-11-03T04:05:06",
                "2030-06-30T23:59:60Z", "2026-11-03T23:59:60Z", "2026-11-03T04:60:06Z"],
    "ra": ["360", "359.999999999", "-1", "01.5", ".5", "5.", "1.1234567891", ".", "1e2", "400", "12.5"],
    "dec": ["90", "-90.0", "90.000000001", "+5", "--5", "05.2", "-.5", "45.1234567891"],
    "rmsRA": ["0", "0.00001", "1234567", "12345.6", "-1", ".5", "00.5", "12345678"],
    "rmsCorr": ["1", "-1.0", "0.999", "-0.5", ".5", "2", "0.123456789012"],
    "astCat": ["Gaia2", "Gaia.2", "Gaia-2", "Gaia23456"],
    "mag": ["35.0", "35.1", "-5", "-5.01", "020.1", "20.12345", "20.123456", "x"],
    "rmsMag": ["0.05", "0.00001", "0", "1.23456"],
    "band": ["Pr", "Pgri", "P-", "V"],
    "photCat": ["PS1_DR1", "PS1 DR1", "123456789"],
    "logSNR": ["1.234", "-1.23", "1.23456", "-0.1234", "x"],
    "exp": ["30", "30.0", "0", "1234567"],
    "seeing": ["2.2", "-2", "2..2"],
    "notes": ["t", "abcdefg", "t E", "K_1"],
    "remarks": ["a|b", " ", "x" * 300, "x" * 301, "all right"],
    "obsSubID": ["1" * 25, "1" * 26, "a b"],
    "aperture": ["0", "1.2", "1234567", "x"],
    "design": ["x" * 25, "x" * 26, "a|b"],
    "name": ["x" * 100, "x" * 101, " "],
    "mpcCode": ["I41", "I", "I4141"],
    "line": ["x" * 101, "fine"],
}  # fmt: skip

MORE = {"trkSub", "stn", "astCat", "band", "mode", "photCat", "mpcCode"}
"""Elements for which there are rules beyond the schema."""


@needs_schema
@pytest.mark.parametrize("name", sorted(VALUES))
def test_forms_are_those_of_the_schema(schema, texts, name):
    """Each value in place of that of the first element of the name: our verdict is that of an independent validator."""
    for value in VALUES[name]:
        root = ElementTree.fromstring(texts["xml"])
        one = next(root.iter(name))
        one.text = value
        valid, ours = schema.is_valid(root), said(ElementTree.tostring(root, encoding="unicode"))
        if valid and name in MORE:
            ours = [text for text in ours if "listed" not in text and "one station" not in text]
        assert (not ours) == valid, (value, ours)


@needs_schema
def test_orders_and_presence_are_those_of_the_schema(schema, texts):
    """Elements dropped, repeated, swapped, renamed, at random: whatever the schema refuses, our rules refuse."""
    rng, refused = random.Random(1), 0
    for _ in range(300):
        root = ElementTree.fromstring(texts["xml"])
        parent = rng.choice([one for one in root.iter() if len(one)])
        child = rng.randrange(len(parent))
        match rng.randrange(4):
            case 0:
                parent.remove(parent[child])
            case 1:
                parent.insert(child, ElementTree.fromstring(ElementTree.tostring(parent[child])))
            case 2:
                other = rng.randrange(len(parent))
                parent[child], parent[other] = parent[other], parent[child]
            case _:
                parent[child].tag = rng.choice(["permID", "provID", "fltr", "nStars", "nothing", "software", "disc"])
        valid, ours = schema.is_valid(root), said(ElementTree.tostring(root, encoding="unicode"))
        refused += not valid
        beyond = ("go together", "without the errors", "again", "stands for two")
        if valid:
            assert all(any(word in text for word in beyond) for text in ours), ours
        else:
            assert ours
    assert 50 < refused < 290


_HEAD, _TAIL = "mode=CCD stn=I41 obsTime=2026-11-03T04:05:06Z", "disc=* uncTime=0.1 notes=t remarks=x"
_PLACE = "deltaRA=1 deltaDec=-1 rmsRA=0.1 rmsDec=0.1 rmsCorr=0.1"
_POLAR = "dist=1 pa=30 rmsDist=0.1 rmsPA=0.1 rmsCorr=0.1"
_LIGHT = "mag=20 rmsMag=0.1 band=V fltr=V photCat=Gaia2 photAp=1 logSNR=1"
_STAR = "raStar=1 decStar=2"
_RADAR = "permID=433 trkSub=abc trx=251 rcv=251 obsTime=2026-11-03T04:05:06Z"
OTHERS = [
    ("offset", f"permID=433 provID=1898_DQ trkSub=abc {_HEAD} obsCenter=Mars {_PLACE} {_LIGHT} seeing=1 exp=1 {_TAIL}"),
    ("offset", f"artSat=x {_HEAD} obsCenter=Mars {_POLAR} mag=20 band=V seeing=1 exp=1 rmsFit=0.1 nStars=5 {_TAIL}"),
    ("occultation", f"permID=433 {_HEAD} {_STAR} {_POLAR} astCat=Gaia2 {_LIGHT} shapeOcc=1 seeing=1 {_TAIL}"),
    ("occultation", f"provID=1898_DQ {_HEAD} {_STAR} {_PLACE} astCat=Gaia2 mag=20 band=V {_TAIL}"),
    ("radar", f"{_RADAR} doppler=-1.5 rmsDoppler=0.1 logSNR=1 com=1 frq=2380 remarks=x"),
    ("radar", f"{_RADAR} delay=1.5 rmsDelay=0.1 frq=2380"),
]
"""Observations that are not optical: their kind, and elements with values."""


def with_observations(text, *observations):
    """Report in XML with other observations in place of its own: the kind of each, and its elements."""
    root = ElementTree.fromstring(text)
    data = next(root.iter("obsData"))
    data.clear()
    for kind, elements in observations:
        one = ElementTree.SubElement(data, kind)
        for name, value in elements:
            ElementTree.SubElement(one, name).text = value.replace("_", " ")
    return root


def elements_of(text):
    return [tuple(pair.split("=")) for pair in text.split()]


@needs_schema
@pytest.mark.parametrize(("kind", "text"), OTHERS)
def test_what_is_not_optical_has_the_orders_of_the_schema(schema, texts, kind, text):
    """Elements dropped, swapped, repeated, at random; one of two errors alone is ours to refuse."""
    rng, refused = random.Random(len(text)), 0
    assert said(ElementTree.tostring(with_observations(texts["xml"], (kind, elements_of(text))), "unicode")) == []
    for _ in range(40):
        elements = elements_of(text)
        for _ in range(rng.randrange(4)):
            n, other = rng.randrange(len(elements)), rng.randrange(len(elements))
            match rng.randrange(6):
                case 0:
                    elements[n], elements[other] = elements[other], elements[n]
                case 1:
                    elements.insert(n, elements[other])
                case _:
                    del elements[n]
        root = with_observations(texts["xml"], (kind, elements))
        ours, valid = told_of(texts, (kind, elements)), schema.is_valid(root)
        if valid and {"rmsRA and rmsDec go together", "rmsDist and rmsPA go together"}.isdisjoint(ours):
            ours = [one for one in ours if "without the errors" not in one]
            assert not ours, elements
        assert valid or ours, elements
        refused += not valid
    assert 5 < refused < 40


def told_of(texts, *observations):
    return said(ElementTree.tostring(with_observations(texts["xml"], *observations), "unicode"))


def test_observations_of_a_block_are_of_one_kind(texts):
    offset, radar = ((kind, elements_of(text)) for kind, text in (OTHERS[1], OTHERS[5]))
    assert "all of one kind" in told_of(texts, offset, radar)[0]
    assert "all of one kind" in told_of(texts, ("photometry", []))[0]
    assert "all of one kind" in told_of(texts)[0]
    assert told_of(texts, offset) == told_of(texts, radar) == []


def test_a_frequency_is_above_0(texts):
    assert [one.split()[0] for one in told_of(texts, ("radar", elements_of(OTHERS[5][1].replace("2380", "0"))))] == [
        "frq"
    ]


def test_errors_along_both_axes_have_a_correlation_those_along_one_have_not(texts):
    for kind, text in OTHERS[:3]:
        for name in ("rmsRA", "rmsDec", "rmsDist", "rmsPA"):
            elements = [one for one in elements_of(text) if one[0] != name]
            found = told_of(texts, (kind, elements))
            assert len(found) == (2 if name in text else 0)
            assert all("rmsCorr without" in one or "go together" in one for one in found)


def test_one_thing_is_said_of_one_fault(texts):
    kind, text = OTHERS[5]
    assert told_of(texts, (kind, [*elements_of(text), ("nothing", "1")])) == ["'nothing' is not an element of radar"]
    assert told_of(texts, (kind, [one for one in elements_of(text) if one[0] != "frq"])) == ["there is no frq"]


def test_all_elements_at_once_do_not_go_together(texts):
    elements = dict(elements_of(" ".join(text for kind, text in OTHERS if kind == "radar")))
    every = [(name, elements.get(name, "1")) for name in dict.fromkeys(re.findall(r"\w+", SEQUENCES["radar"]))]
    found = told_of(texts, ("radar", [(name, "433" if name == "permID" else value) for name, value in every]))
    assert any("do not go together" in one for one in found)


@pytest.mark.parametrize("code", ["247", "270", "250", "C51"])
def test_an_observer_that_moves_tells_where_it_was(texts, code):
    moved = re.sub(r"(mpcCode|stn)>\w+<", rf"\1>{code}<", texts["xml"])
    lacking = f"stn {code} has no fixed place: sys, ctr, pos1, pos2 and pos3 must tell where it was"
    assert said(moved) == [lacking] * moved.count("<optical>")
    place = "<sys>WGS84</sys><ctr>399</ctr><pos1>1</pos1><pos2>2</pos2><pos3>3</pos3>"
    assert said(moved.replace("<obsTime>", f"{place}<obsTime>")) == []


def test_places_apart_are_different_observations(texts):
    one = "permID=433 mode=CCD stn=I41 obsTime=2026-11-03T04:05:06Z ra=10 dec=20 astCat=Gaia2"
    for other in (one.replace("=10", "=11"), one.replace("=20", "=21"), one.replace(":06", ":07")):
        assert told_of(texts, ("optical", elements_of(one)), ("optical", elements_of(other))) == []
    again = one.replace("CCD", "CMO").replace("Gaia2", "Gaia3")
    assert (
        "the observation of line" in told_of(texts, ("optical", elements_of(one)), ("optical", elements_of(again)))[0]
    )
    radar = OTHERS[5][1]
    assert told_of(texts, ("radar", elements_of(radar)), ("radar", elements_of(radar.replace("1.5", "1.6")))) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stn": "W84"}, "one block, one station"),
        ({"rmsRA": "", "rmsDec": ""}, "rmsCorr without the errors"),
        ({"rmsDec": ""}, "rmsRA and rmsDec go together"),
        ({"band": "", "rmsMag": "", "photCat": ""}, "mag needs a band"),
        ({"mag": ""}, "without mag"),
        ({"trkSub": "K23X07X"}, "is the packed form of a designation"),
        ({"trkSub": "Tabcdef"}, "begins with one of I, J, K, P and T"),
        ({"band": "Zg"}, "is not listed"),
        ({"astCat": "Gaia9"}, "is not listed"),
        ({"permID": "433"}, "stands for two objects"),
        ({"trkSub": ""}, "says which object"),
    ],
)
@pytest.mark.parametrize("form", ["psv", "xml"])
def test_rules_beyond_the_schema(form, changes, text):
    """The second of the observations breaks a rule, and the line is told."""
    context, rows = block(changes)
    document = read_text("a report", _as_written(context, rows, form))
    lines = [one.line for one in document.blocks[0].parts[1].parts]
    found = [one for one in problems_of(document) if text in one.text]
    assert found
    assert all(lines[1] <= one.line < lines[2] for one in found)


def _as_written(context, rows, form):
    return {"psv": as_psv, "xml": as_xml}[form](context, rows)


def test_an_observation_twice_is_told():
    context, rows = block()
    assert "the observation of line" in said(written(context, [rows[0], rows[0]], "psv"))[0]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "no_ades"),
        ("permID|provID\n1|\n", "no_ades"),
        ("# version=2022\npermID|provID\n", "no_ades"),
        ("# version=2022\n# observatory\n! mpcCode I41\nprovID|stn\n2014 AA|I41\n", "no_ades"),
        ("<ades version='2022'><obsBlock></ades>", "unreadable_report"),
        ("<other/>", "no_ades"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><ades version="2022"/>', "unreadable_report"),
    ],
)
def test_what_is_no_report_is_refused(text, code):
    with pytest.raises(BadInput, match="To fix") as raised:
        read_text("a report", text)
    assert raised.value.code == code


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(BadInput, match="cannot be read as text"):
        read_document(tmp_path / "noise")
    with pytest.raises(Misconfigured, match="does not exist"):
        read_document(tmp_path / "none")


@pytest.mark.parametrize(
    "line", ["# observatory", "! mpcCode I41", "# telescope", "! aperture 1.22", "! design Schmidt"]
)
def test_a_header_that_lacks_something_is_told(texts, line):
    assert said(texts["psv"].replace(f"{line}\n", "", 1)) != []


def test_cells_without_a_column_are_told(texts):
    lines = texts["psv"].splitlines()
    assert any("column" in text for text in said("\n".join([*lines[:-1], lines[-1] + "|more"])))


def test_a_report_without_observations_is_not_written():
    for form in ("psv", "xml", "obs80"):
        with pytest.raises(BadInput) as caught:
            written(block()[0], [], form)
        assert caught.value.code == "no_observations"


def test_another_version_of_the_standard_is_told(texts):
    for form, old in (("psv", "version=2022"), ("xml", 'version="2022"')):
        assert old in texts[form]
        assert said(texts[form].replace(old, old.replace("2022", "2017"), 1)) == ["version is '2017', must be 2022"]


def test_columns_may_change_within_a_block_and_tell_the_kind_of_an_observation():
    text = (
        "# version=2022\n# observatory\n! mpcCode I41\npermID|stn|trx\n433|253|251\npermID|raStar\n433|10.5\n"
        "permID|stn|obsCenter\n433|I41|10\npermID|stn|ra\n433|I41|10.5\n"
    )
    (found,) = read_text("a report", text).blocks
    assert [one.name for one in found.parts[1].parts] == ["radar", "occultation", "offset", "optical"]
    assert [one.name for one in found.parts] == ["obsContext", "obsData"]
