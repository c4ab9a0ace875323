import numpy as np
import pytest

from flows.adapters.galstar_csv import PIXELS, PLANES, iter_galstar, read_galstar
from schemas.errors import BadInput


def write(path, rows=5, seed=0):
    """A file of the challenge's layout; give what is in it."""
    rng = np.random.default_rng(seed)
    pixels = np.round(rng.normal(0, 50, (rows, PIXELS)), 3)
    lines = ["," + "y," + ",".join(str(n) for n in range(PIXELS))]
    lines += [f"{n},{n % 2}," + ",".join(repr(float(v)) for v in row) for n, row in enumerate(pixels)]
    path.write_text("\n".join(lines) + "\n")
    return pixels.astype(np.float32)


def test_reads_planes_in_order(tmp_path):
    pixels = write(tmp_path / "galstar.csv")
    data = read_galstar(tmp_path / "galstar.csv")
    assert data.cutouts.shape == (5, len(PLANES), 26, 26)
    np.testing.assert_array_equal(data.cutouts.reshape(5, -1), pixels)
    assert data.cutouts[2, 4, 0, 3] == pixels[2, 4 * 676 + 3]  # psf-g, first row, fourth column
    assert data.label.tolist() == [0, 1, 0, 1, 0]
    assert data.group.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_join_up(tmp_path, chunk):
    pixels = write(tmp_path / "galstar.csv")
    parts = list(iter_galstar(tmp_path / "galstar.csv", chunk))
    assert max(len(part) for part in parts) <= chunk
    np.testing.assert_array_equal(np.concatenate([part.cutouts for part in parts]).reshape(5, -1), pixels)


def test_an_empty_field_is_a_missing_pixel(tmp_path):
    write(tmp_path / "galstar.csv", 1)
    lines = (tmp_path / "galstar.csv").read_text().splitlines()
    fields = lines[1].split(",")
    fields[2] = ""
    (tmp_path / "galstar.csv").write_text(lines[0] + "\n" + ",".join(fields) + "\n")
    assert np.isnan(read_galstar(tmp_path / "galstar.csv").cutouts[0, 0, 0, 0])


def spoil(path, line, change):
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "change", "match"),
    [
        (0, lambda text: text + ",more", f"has {PIXELS + 3} columns"),
        (0, lambda text: text.replace("y,", "label,", 1), "the second"),
        (2, lambda text: text.rsplit(",", 1)[0], f"line 3: has {PIXELS + 1} fields"),
        (2, lambda text: text.replace("1,1,", "1,2,", 1), "y is 2.0, not 0"),
        (3, lambda text: text.rsplit(",", 1)[0] + ",nonsense", "line 4: is not numbers"),
    ],
)
def test_says_where_the_layout_breaks(tmp_path, line, change, match):
    write(tmp_path / "galstar.csv")
    spoil(tmp_path / "galstar.csv", line, change)
    with pytest.raises(BadInput, match=match):
        read_galstar(tmp_path / "galstar.csv")


def test_no_file_and_no_rows(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_galstar(tmp_path / "galstar.csv")
    write(tmp_path / "galstar.csv", 0)
    with pytest.raises(BadInput, match="has no rows"):
        read_galstar(tmp_path / "galstar.csv")
