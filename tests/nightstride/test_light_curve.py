"""Light curves as a notebook shows them."""

import base64
import io
import re

import numpy as np
import pytest
from astropy import units as u
from PIL import Image as Picture
from scipy.ndimage import binary_dilation, label

import nightstride as ns
from nightstride.light_curve import LightCurve

pytest_plugins = ("tests.support.night_fixture", "tests.support.linked_fixture")


def test_a_notebook_shows_a_light_curve_with_a_picture(linked):
    night, (star, _, _) = linked
    curve = night.lightcurve(star[1])
    assert type(curve) is LightCurve is ns.LightCurve
    curve["flux"], curve["fluxErr"] = np.arange(len(curve)) * u.nJy, np.full(len(curve), 0.3) * u.nJy
    html = curve._repr_html_()
    alt, uri = re.search('<img alt="(.*?)" src="data:image/png;base64,(.*?)"/>', html).groups()
    assert alt == f"object {star[0]}"
    with Picture.open(io.BytesIO(base64.b64decode(uri))) as picture:
        assert (picture.format, picture.size) == ("PNG", (640, 300))
        marks = (np.asarray(picture.convert("RGB")) == (31, 119, 180)).all(axis=2)  # the first colour: of one band
    assert html.count("<tr>") >= len(curve)
    assert label(binary_dilation(marks, iterations=2))[1] == len(curve) + 1  # and that of the legend
    assert "<img" in curve[:1]._repr_html_()


@pytest.mark.parametrize(
    "change",
    [
        lambda curve: curve.replace_column("flux", curve["flux"] * np.nan),
        lambda curve: curve.replace_column("time", curve["time"].mjd),
        lambda curve: curve.replace_column("flux", ["bright"] * len(curve)),
        lambda curve: curve.replace_column("flux", np.arange(len(curve))),
        lambda curve: curve.replace_column("fluxErr", np.ones(len(curve))),
        lambda curve: curve.remove_column("fluxErr"),
    ],
)
def test_a_light_curve_without_fluxes_or_times_is_shown_as_a_table(linked, change):
    night, (star, _, _) = linked
    curve = night.lightcurve(star[1])
    curve["flux"], curve["fluxErr"] = np.arange(len(curve)) * u.nJy, np.full(len(curve), -0.3) * u.nJy
    assert "<img" in curve._repr_html_()
    change(curve)
    assert "<img" not in curve._repr_html_()
    assert "<table" in curve._repr_html_()
