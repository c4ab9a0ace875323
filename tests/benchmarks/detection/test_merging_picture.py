"""Groups of hits in the picture of the merging have the candidates that its titles and docs/method/merging.md say."""

import pytest

from benchmarks.detection.merging_picture import PANELS, panel

COUNTS = (1, 2, 2, 2, 1, 1, 3, 1)


@pytest.mark.parametrize(("number", "title", "count"), [*zip(range(len(PANELS)), PANELS, COUNTS, strict=True)])
def test_each_panel_shows_what_was_put_in(number, title, count):
    *_, found = panel(PANELS[title], "masked" in title, number)
    assert len(found) == count
