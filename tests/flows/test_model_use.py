import pytest

from flows.adapters.ledger import Ledger
from flows.model_use import model_uses, recorded_sources, searched_with
from flows.provenance import provenance_of
from schemas.errors import Misconfigured
from schemas.ledger import ExposureRecord, Previous
from schemas.settings import Settings
from stages import PIPELINE

A, B = "a" * 64, "b" * 64


@pytest.fixture
def out(tmp_path):
    """Two nights with model A, one of them with an exposure of model B that replaced one of A, and one not recorded."""
    ledger, made = Ledger(tmp_path / "out"), provenance_of(PIPELINE, Settings())
    known = {}
    for sha256, version in ((A, "1"), (B, "2")):
        card = made.models["detect"].model_copy(update={"name": "net", "version": version, "sha256": sha256})
        known[sha256] = ledger.put_provenance(made.model_copy(update={"models": {"detect": card}}))
    before = Previous(digest="d", provenance=known[A], files={}, detections=1, finished_at="now")
    for visit, night, given in (
        (1, "20260101", {"provenance": known[A]}),
        (2, "20260101", {"provenance": known[B], "previous": (before, before)}),
        (3, "20260102", {"provenance": known[A]}),
        (4, "20260102", {}),
        (5, "20260102", {"provenance": known[A], "status": "failed", "reason": "x: y"}),
    ):
        (tmp_path / f"{visit}.fits").write_bytes(b"SIMPLE  = T")
        ledger.put(
            ExposureRecord(
                night=night,
                visit=visit,
                detector=0,
                source_uri=str(tmp_path / f"{visit}.fits"),
                source_sha256="s",
                digest="d",
                detections=10 * visit,
                software="0",
                finished_at="now",
                **given,
            )
        )
    return tmp_path / "out"


def test_models_with_nights_exposures_detections_and_what_was_replaced(out):
    first, second, unknown = model_uses(out)
    assert (first.version, sorted(first.nights), first.exposures, first.detections, first.replaced) == (
        "1", ["20260101", "20260102"], 2, 40, 1,
    )  # fmt: skip
    assert (second.version, sorted(second.nights), second.exposures, second.replaced) == ("2", ["20260101"], 1, 0)
    assert (unknown.model, unknown.exposures) == ("not recorded", 1)


@pytest.mark.parametrize(("wanted", "visits"), [("net 1", [1, 3]), (A[:8], [1, 3]), (B, [2]), ("net", [1, 2, 3])])
def test_exposures_are_told_by_name_version_or_digest(out, wanted, visits):
    test = searched_with(out, wanted)
    assert [record.visit for record in Ledger(out).records() if test(record)] == visits
    found = recorded_sources(out, test, Settings())
    assert [source.uri for source in found] == [str(out.parent / f"{visit}.fits") for visit in visits]


@pytest.mark.parametrize("wanted", ["other", "aaaa", "c" * 64, "", "net 3"])
def test_a_model_that_made_nothing_is_refused_with_those_that_did(out, wanted):
    with pytest.raises(Misconfigured, match=r"net 1 \(aaaaaaaaaaaa\), net 2"):
        searched_with(out, wanted)


def test_what_is_no_output_folder_is_refused(tmp_path):
    for function in (model_uses, lambda out: searched_with(out, "net")):
        with pytest.raises(Misconfigured, match="no output folder"):
            function(tmp_path)
