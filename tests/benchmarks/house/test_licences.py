import pytest

from benchmarks.house.licences import Licensed, licences, needed


def test_nothing_that_a_run_needs_is_under_the_gpl_alone():
    found = {one.name: one for one in licences(needed("nightstride"))}
    assert {"numpy", "torch", "prefect", "distributed", "astropy", "sep"} <= found.keys()
    assert [one.name for one in found.values() if one.is_gpl_alone] == []
    assert [one.name for one in found.values() if not one.said] == []


@pytest.mark.parametrize("extra", ["butler", "kafka", "observe", "slurm"])
def test_what_an_extra_brings_is_found(extra):
    assert needed("nightstride", [extra]) > needed("nightstride")


@pytest.mark.parametrize(
    ("said", "alone"),
    [
        (("GPL-3.0-or-later",), True), (("GNU General Public License v3 (GPLv3)",), True), (("GPLv2", "GPL"), True),
        (("LGPLv3+", "GNU Lesser General Public License v3 or later (LGPLv3+)"), False), (("MIT",), False),
        (("BSD-3-Clause OR GPL-3.0-or-later",), False), (("Artistic License", "GPLv2+"), False), ((), False),
    ],
)  # fmt: skip
def test_the_gpl_alone_is_told_from_other_licences(said, alone):
    assert Licensed("a", "1", said).is_gpl_alone is alone
