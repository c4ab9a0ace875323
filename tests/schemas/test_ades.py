"""Rules of what may stand in a report."""

import pytest
from pydantic import ValidationError

from schemas.ades import AdesSettings, AdesTelescope


@pytest.mark.parametrize("text", ["", " ", "two\nlines", "a | b", "x" * 101, "bell\a"])
@pytest.mark.parametrize("field", ["submitter", "institution", "funding_source", "measurers", "observers", "comments"])
def test_what_is_no_line_of_100_characters_is_refused(field, text):
    lists = field in ("measurers", "observers", "comments")
    with pytest.raises(ValidationError, match=f"{field}\n.*must be one line of 100 characters at most"):
        AdesSettings(**{field: (text,) if lists else text})
    good = "x" * 100
    assert getattr(AdesSettings(**{field: (good,) if lists else good}), field) == ((good,) if lists else good)


def test_words_of_a_telescope_are_short_and_its_name_longer():
    assert AdesTelescope(name="x" * 100, design="x" * 25, detector="x" * 25).aperture is None
    for field, most in (("name", 100), ("design", 25), ("detector", 25)):
        with pytest.raises(ValidationError, match=f"{most} characters at most"):
            AdesTelescope(**{field: "x" * (most + 1)})


@pytest.mark.parametrize(("field", "value"), [("ast_cat", "Gaia9"), ("phot_cat", "mine"), ("bands", {"g": "qq"})])
def test_what_the_minor_planet_center_does_not_list_is_refused(field, value):
    with pytest.raises(ValidationError, match="must be what the Minor Planet Center lists"):
        AdesSettings(**{field: value})
