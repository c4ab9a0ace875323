import pytest

from flows.nearest_name import choice


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("stride_px", "write 'stride'; known are window, stride."),
        ("Window", "write 'window'; known are window, stride."),
        ("zzz", "choose one of window, stride."),
        ("", "choose one of window, stride."),
    ],
)
def test_the_nearest_name_comes_first(given, says):
    assert choice(given, ("window", "stride")) == says
