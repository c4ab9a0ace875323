import pytest
from astropy.io import fits

from flows.inputs.fits_header import Keywords
from flows.inputs.fits_layout import detector_of, layout_of, left_out, likely_planes, mapping_for
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping


def headers(*names, primary=False):
    first = fits.Header({"NAXIS": 2, "NAXIS1": 9, "NAXIS2": 9} if primary else {"NAXIS": 0})
    rest = [fits.Header({"XTENSION": "IMAGE", "NAXIS": 2, "NAXIS1": 9, "NAXIS2": 9}) for _ in names]
    for header, name in zip(rest, names, strict=True):
        if name:
            header["EXTNAME"] = name
    return (first, *rest)


@pytest.mark.parametrize(
    ("given", "index"),
    [
        (headers("SCI", "DIFF", "MASK"), 2),
        (headers("IMAGE", "difference"), 2),
        (headers("DIFF_IMAGE", "REF", "SCI"), 1),
        (headers("SCI", "ERR", "DQ"), 1),
        (headers("", primary=False), 1),
        (headers("MASK", "VAR", "WEIGHT_MAP", "PSF", primary=True), 0),
        (headers("SCI", "MSK", "WGT"), 1),  # of the Dark Energy Survey
    ],
)
def test_the_image_is_the_one_named_difference_or_the_only_one(given, index):
    assert layout_of(given, "x", KeywordMapping()) == {"difference": index}


@pytest.mark.parametrize("given", [headers("CCD1", "CCD2"), headers("", "", primary=True), headers("DIFF", "SUB")])
def test_several_that_may_be_it_are_refused_with_the_setting(given):
    with pytest.raises(BadInput) as caught:
        layout_of(given, "x", KeywordMapping())
    assert caught.value.code == "ambiguous_image"
    assert "fits.extension" in caught.value.remedy
    assert layout_of(given, "x", KeywordMapping(extension=2)) == {"difference": 2}


@pytest.mark.parametrize(
    "mapping", [KeywordMapping(extension="SCI"), KeywordMapping(extension=1, planes={"mask": "SCI"})]
)
def test_a_name_that_two_images_have_is_refused_and_a_number_is_not(mapping):
    """As in files of two chips (HST), with one extension SCI for each."""
    given = headers("SCI", "ERR", "SCI")
    with pytest.raises(BadInput, match="2 extensions are named 'SCI': 1, 3") as caught:
        layout_of(given, "x", mapping)
    assert caught.value.code == "ambiguous_image"
    assert layout_of(given, "x", KeywordMapping(extension=3)) == {"difference": 3}
    given[1]["XTENSION"] = "BINTABLE"
    assert layout_of(given, "x", KeywordMapping(extension="SCI")) == {"difference": 3}


def test_a_number_may_be_text_unless_that_is_a_name():
    assert layout_of(headers("A", "B"), "x", KeywordMapping(extension="2")) == {"difference": 2}
    assert layout_of(headers("2", "B"), "x", KeywordMapping(extension="2")) == {"difference": 1}
    assert mapping_for(headers("A", "B"), KeywordMapping(extension="2")).extension == "2"
    with pytest.raises(BadInput, match="no extension '3'"):
        layout_of(headers("A", "B"), "x", KeywordMapping(extension="3"))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("VAR", True),
        ("VARIANCE", True),
        ("", True),
        ("PLANE_2", True),
        ("WGT", False),
        ("err", False),
        ("inv_IVAR", False),
        ("WEIGHT MAP", False),
        ("RMS", False),
        ("UNCERT", False),
        ("STDDEV", False),
        ("WEIGHT_1", False),
        ("INVERSE_VARIANCE", False),
        ("VAR_2", True),
    ],
)
def test_weights_and_errors_are_no_variances(name, right):
    """As the extensions WGT of the Dark Energy Survey and ERR of Hubble's images, which settings name by mistake."""
    given, mapping = headers("SCI", name), KeywordMapping(extension=1, planes={"variance": 2})
    if right:
        assert layout_of(given, "x", mapping) == {"difference": 1, "variance": 2}
        return
    with pytest.raises(BadInput, match=f"extension {name} is given for the variance") as caught:
        layout_of(given, "x", mapping)
    assert caught.value.code == "not_a_variance"


def test_planes_of_the_settings_are_not_the_image():
    given = headers("A", "B")
    assert layout_of(given, "x", KeywordMapping(planes={"science": "A"})) == {"difference": 2, "science": 1}


def test_an_extension_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(BadInput, match=r"no extension 'DIFF', only 0, SCI, 2\.") as caught:
        layout_of(headers("SCI", ""), "x", KeywordMapping(extension="DIFF"))
    assert caught.value.code == "missing_extension"


@pytest.mark.parametrize(
    ("names", "planes", "expected"),
    [
        (("SCI", "MASK"), {"mask": "MASK"}, {"mask": "MASK"}),  # as in the science image
        (("SCI", "MASK"), {"mask": 2}, {"mask": 2}),
        (("SCI", "MSK", "WGT"), {"mask": "MASK"}, {"mask": "MSK"}),  # the only mask
        (("SCI", "msk"), {"mask": "MASK"}, {"mask": "msk"}),
        (("SCI", "MSK", "DQ"), {"mask": "MASK"}, {"mask": "MASK"}),  # of two masks none, and that is refused
        (("SCI", "MASK", "DQ"), {"mask": "MASK"}, {"mask": "MASK"}),
        (("SCI", "WGT"), {"mask": "MASK"}, {}),  # without a mask
    ],
)
def test_planes_of_a_template_are_those_that_it_has(names, planes, expected):
    found = mapping_for(headers(*names), KeywordMapping(planes=planes, extension="SCI"))
    assert found.planes == expected
    assert found.extension == "SCI"


def test_a_template_without_the_extension_is_read_where_its_image_is():
    assert mapping_for(headers("IMAGE"), KeywordMapping(extension="SCI")).extension is None


def test_likely_planes_are_as_large_as_the_image_and_not_used():
    given = headers("DIFF", "MASK", "SCI", "OBJECT", "VARIANCE", "CATALOG", "REF")
    given[5]["NAXIS1"] = 8
    del given[6]["NAXIS1"], given[6]["NAXIS2"]
    given[6]["XTENSION"], given[6]["NAXIS"] = "BINTABLE", 0
    layout = {"difference": 1, "science": 3}
    assert likely_planes(given, layout) == {2: "mask", 7: "template"}  # 4: there is a science image
    assert likely_planes(given, {}) == {}
    assert [one.note for one in left_out(given, layout)] == ["MASK (mask), REF (template)"]
    assert left_out(given, {"difference": 1, "science": 3, "mask": 2, "template": 7}) == ()


def detector(mapping=None, **cards):
    header = fits.Header()
    for key, value in cards.items():
        header[key.replace("_", "-")] = value
    return detector_of(Keywords("x", (header,)), mapping or KeywordMapping())


@pytest.mark.parametrize(
    ("cards", "number"),
    [
        ({"CCDNUM": 12}, 12),
        ({"CCD": "7"}, 7),
        ({"EXTNAME": "ccd03"}, 3),
        ({"EXTNAME": "DETECTOR_14"}, 14),
        ({"CCDNUM": 12, "EXTNAME": "CCD13"}, 12),
        ({"CCDNUM": 12, "DETECTOR": "S3-98_123"}, 12),
        ({"CCDNUM": 12, "DETECTOR": 12}, 12),
        ({"CCDNUM": 511}, 511),
        ({"CCDNUM": 512}, 0),
        ({"EXTNAME": "CCD511"}, 511),
        ({"EXTNAME": "CCD512"}, 0),
        ({"CCD": -1, "EXTNAME": "SCI"}, 0),
        ({}, 0),
    ],
)
def test_well_known_keywords_tell_the_detector(cards, number):
    found, origin = detector(**cards)
    assert found == number
    assert origin.assumed is (number == 0)


def test_keywords_that_differ_are_refused_with_the_setting():
    with pytest.raises(BadInput) as caught:
        detector(CCDNUM=12, DETECTOR=11)
    assert caught.value.code == "ambiguous_detector"
    assert "[fits.detector]" in caught.value.remedy
    assert detector(KeywordMapping(detector={"keyword": "DETECTOR"}), CCDNUM=12, DETECTOR=11)[0] == 11
    assert detector(KeywordMapping(detector={"value": 5}), CCDNUM=12, DETECTOR=11)[0] == 5


def test_a_detector_with_two_numbers_is_refused():
    def told(*numbers):
        return detector_of(Keywords("x", (fits.Header([("CCDNUM", number) for number in numbers]),)), KeywordMapping())

    with pytest.raises(BadInput, match="CCDNUM is there 2 times with different values: 3, 4") as caught:
        told(3, 4)
    assert caught.value.code == "invalid_keyword"
    assert told(3, 3)[0] == 3
