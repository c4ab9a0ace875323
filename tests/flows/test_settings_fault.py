import pytest
from pydantic import ValidationError

from flows.settings_fault import misconfigured
from schemas.settings import Settings


def told(**sections):
    with pytest.raises(ValidationError) as caught:
        Settings(**sections)
    return misconfigured(caught.value.errors())


@pytest.mark.parametrize(
    ("section", "given", "where", "says"),
    [
        ("tiles", {"tile": -1}, "tiles.tile", "must be greater than 0, got -1."),
        ("detect", {"device": "gpu"}, "detect.device", "must be 'auto', 'cpu' or 'cuda', got 'gpu'."),
        ("detect", {"stride": "x"}, "detect.stride", "must be a whole number, got 'x'."),
        ("merge", {"max_candidates": 1.5}, "merge.max_candidates", "must be a whole number, got 1.5."),
        ("detect", {"screen": "maybe"}, "detect.screen", "must be true or false, got 'maybe'."),
        ("detect", {"model": 3}, "detect.model", "must be a text, in quotes, got 3."),
        ("execution", 3, "execution", "must be a table of keys and values, got 3."),
        ("inject", {"snr": [5, 2]}, "inject.snr", "must be two positive numbers, the smaller first, got [5.0, 2.0]"),
        (
            "cluster",
            {"slurm": {"minimum_jobs": 9, "maximum_jobs": 1}},
            "cluster.slurm",
            "minimum_jobs = 9 is more than",
        ),
    ],
)
def test_a_rule_in_our_words_with_the_value(section, given, where, says):
    error = told(**{section: given})
    assert error.where == where
    assert error.problem.startswith(says)
    assert error.remedy.startswith("correct it in the settings file")
    assert "Input" not in str(error)


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        ("detect", {"strid": 5}, "detect.strid: there is no setting of this name in [detect]. To fix, write 'stride';"),
        ("cluster", {"slurm": {"foldr": 2}}, "cluster.slurm.foldr: there is no setting of this name in "
         "[cluster.slurm]. To fix, write 'folder';"),
        ("dtect", {"stride": 5}, "dtect: there is no such section. To fix, write 'detect'; known are fits, tiles,"),
        ("workers", 3, "workers: there is no such section. To fix, write it under [execution]."),
        ("tiles", {"stride": 7}, "tiles.stride: there is no setting of this name in [tiles]. "
         "To fix, write it under [detect]."),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_the_nearest(section, given, says):
    assert str(told(**{section: given})).startswith(says)


def test_everything_that_is_wrong_is_told_at_once():
    error = told(tiles={"tile": -1, "chunck": 4}, fetch={"url": "https://observer:hunter2@archive.org/x?y"}, tils={})
    first, *lines, last = str(error).split("\n")
    assert first == "settings: 4 are wrong:"
    assert sorted(line.strip().partition(": ")[0] for line in lines) == [
        "fetch.url",
        "tiles.chunck",
        "tiles.tile",
        "tils",
    ]
    assert any(line.startswith("  tiles.chunck: there is") and "to fix, write 'chunk';" in line for line in lines)
    assert "  tiles.tile: must be greater than 0, got -1." in lines
    assert last.strip().startswith("To fix, correct them in the settings file")
    assert "hunter2" not in str(error)
