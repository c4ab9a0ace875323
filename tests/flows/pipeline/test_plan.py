import os
from pathlib import Path

import pytest

from flows.inputs.source import Source
from flows.inputs.source_state import stat_of
from flows.pipeline import plan as plan_module
from flows.pipeline.outcome import NEW, Item
from flows.pipeline.plan import Chosen, Planner
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import write_exposure
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.keyword_mapping import KeywordMapping
from schemas.ledger import SourceFile
from schemas.settings import ExecutionSettings, MergeSettings, Settings, TileSettings
from schemas.summary import Trouble
from stages import PIPELINE
from tests.support.exposure import exposure_record
from tests.support.forced import plain_info, plain_planes
from tests.support.ledger import overwrite_record

pytest_plugins = ("tests.support.planned",)


def names(items):
    return [Path(item.source.uri).name for item in items]


def codes(plan):
    return [(Path(one.uri).name, one.code) for one in plan.quarantined]


def test_what_is_new_is_done_in_order_of_visit_and_detector(world):
    sources = [world.source(name, text) for name, text in [("a", "9 0 x"), ("b", "1 1 x"), ("c", "1 0 x")]]
    plan = world.plan(*sources)
    assert names(plan.todo) == ["c", "b", "a"]
    assert (plan.seen, plan.skipped, plan.quarantined) == (3, 0, ())
    assert world.hashed == []  # a new file is read once, by the worker that stores it


def test_what_is_published_is_skipped_and_remembered(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    plan = world.plan(source)
    assert (plan.todo, plan.skipped, [record.detections for record in plan.published]) == ((), 1, [3])
    assert (world.probed, world.hashed) == (["a"], ["a"])
    assert world.plan(source).skipped == 1
    assert (world.probed, world.hashed) == ([], [])


def test_a_touched_file_is_read_but_not_done_again_and_a_changed_one_is(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    world.plan(source)
    world.source("a", "1 0 x")
    assert world.plan(source).skipped == 1
    assert world.hashed == ["a"]
    world.source("a", "1 0 other")
    assert names(world.plan(source).todo) == ["a"]


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_a_missing_or_spoilt_catalogue_is_made_again(world, spoil):
    source = world.source("a", "1 0 x")
    spoil(world.publish(world.plan(source).todo[0]))
    assert names(world.plan(source).todo) == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"merge": MergeSettings(min_snr=9)},
        {"tiles": TileSettings(tile=504)},
        {"fits": KeywordMapping(checksum="ignore")},
    ],
)
def test_changed_settings_redo(world, change):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    assert names(world.plan(source, settings=world.settings.model_copy(update=change)).todo) == ["a"]


def test_settings_that_change_no_result_redo_nothing(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    changed = world.settings.model_copy(update={"execution": ExecutionSettings(workers=7, retries=0)})
    assert world.plan(source, settings=changed).skipped == 1


def test_new_weights_redo(world, tmp_path, card_folder):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    for card in card_folder.iterdir():
        (tmp_path / card.name).write_text(card.read_text().replace('"sha256": "reliability"', '"sha256": "retrained"'))
    changed = Settings(detect={"model": str(tmp_path)}, measure={"model": str(tmp_path)})
    assert names(world.plan(source, settings=changed).todo) == ["a"]


def test_a_copy_is_counted_as_skipped(world):
    sources = [world.source(name, "1 0 x") for name in ("b", "a", "c")]
    plan = world.plan(*sources)
    assert (names(plan.todo), plan.skipped, plan.quarantined) == (["a"], 2, ())
    world.publish(plan.todo[0])
    plan = world.plan(*sources)
    assert (plan.todo, plan.skipped, len(plan.published)) == ((), 3, 1)


def test_of_two_that_differ_the_first_wins_and_the_other_names_both(world):
    sources = [world.source("b", "1 0 x"), world.source("a", "1 0 other")]
    plan = world.plan(*sources)
    assert (names(plan.todo), plan.skipped, codes(plan)) == (["a"], 0, [("b", "conflict")])
    assert sources[0].uri in plan.quarantined[0].message
    assert sources[1].uri in plan.quarantined[0].message
    assert world.kept() == ["conflict"]


@pytest.mark.parametrize(
    ("named", "winner"),
    [
        (("a_sci", "b_diff"), "b_diff"),
        (("a", "x_sub"), "x_sub"),
        (("a", "x_subaru"), "a"),
        (("diff_b", "diff_a"), "diff_a"),
        (("a", "DIFFERENCE"), "DIFFERENCE"),
    ],
)
def test_of_two_that_differ_the_one_that_is_called_a_difference_image_wins(world, named, winner):
    plan = world.plan(*(world.source(name, f"1 0 {name}") for name in named))
    assert names(plan.todo) == [winner]
    assert [code for _, code in codes(plan)] == ["conflict"]


def test_of_two_that_differ_the_one_in_the_ledger_wins(world):
    published = world.source("b", "1 0 x")
    world.publish(world.plan(published).todo[0])
    late = world.source("a", "1 0 other")
    for sources in ([published, late], [late]):
        plan = world.plan(*sources)
        assert plan.todo == ()
        assert codes(plan) == [("a", "conflict")]
        assert published.uri in plan.quarantined[0].message


def test_a_bad_file_does_not_lock_out_a_good_one_of_the_same_identity(world):
    bad, good = world.source("a", "1 0 bad"), world.source("b", "1 0 good")
    plan = world.plan(bad, good)
    assert (names(plan.todo), codes(plan)) == (["a"], [("b", "conflict")])
    assert "[fits.detector]" in plan.quarantined[0].message
    world.publish(plan.todo[0], status="quarantined")
    plan = world.plan(bad, good)
    assert (names(plan.todo), codes(plan)) == (["b"], [("a", "conflict")])
    world.publish(plan.todo[0])
    for sources in ([bad, good], [good], [bad]):
        plan = world.plan(*sources)
        assert (plan.todo, codes(plan)) == ((), [("a", "conflict")] if bad in sources else [])


def test_a_damaged_copy_is_told_as_damaged_and_does_not_delay_the_good_one(world):
    bad, good = world.source("a", "1 0 damaged"), world.source("b", "1 0 good")
    plan = world.plan(bad, good)
    assert (names(plan.todo), codes(plan)) == (["b"], [("a", "damaged")])
    assert world.kept() == ["damaged"]
    world.publish(plan.todo[0])
    assert codes(world.plan(bad, good)) == [("a", "damaged")]
    assert world.examined == ["a"]  # what is published was searched
    assert codes(world.plan(bad)) == [("a", "damaged")]  # of another folder, say
    other = world.source("c", "1 0 damaged, too")
    assert codes(world.plan(bad, other)) == [("a", "damaged"), ("c", "damaged")]


def test_of_damaged_files_alone_the_first_is_searched_and_the_others_have_their_own_reason(world):
    plan = world.plan(world.source("a", "1 0 damaged"), world.source("b", "1 0 damaged, too"))
    assert (names(plan.todo), codes(plan)) == (["a"], [("b", "damaged")])


def test_few_and_small_files_are_examined_and_copies_are_not(world, monkeypatch):
    world.plan(*(world.source(name, "1 0 x") for name in "ab"))
    assert world.examined == []
    pairs = [world.source(f"{name}{visit}", f"{visit} 0 {name}") for visit in range(1, 4) for name in "ab"]
    monkeypatch.setattr(plan_module, "MOST_EXAMINED", 3)
    world.plan(*pairs)
    assert world.examined == ["a1", "b1", "a2"]
    monkeypatch.setattr(plan_module, "LARGEST_EXAMINED", 4)
    world.plan(*pairs)
    assert world.examined == []


def test_all_bad_files_of_an_identity_stay_in_quarantine(world):
    bad = world.source("a", "1 0 bad")
    world.publish(world.plan(bad).todo[0], status="quarantined")
    copy = world.source("b", "1 0 bad")
    plan = world.plan(bad, copy)
    assert (plan.todo, plan.skipped, codes(plan)) == ((), 1, [("a", "flood")])


def test_a_file_that_moved_is_not_done_again(world):
    old = world.source("b", "1 0 x")
    world.publish(world.plan(old).todo[0])
    new = world.source("a", "1 0 x")
    Path(old.uri).unlink()
    plan = world.plan(new)
    assert (plan.todo, plan.skipped, plan.quarantined) == ((), 1, ())
    (record,) = Ledger(world.out).records()
    assert (record.source_uri, record.source_stat) == (new.uri, stat_of(new))
    redo = world.plan(new, settings=world.settings.model_copy(update={"merge": MergeSettings(min_snr=9)}))
    assert names(redo.todo) == ["a"]


@pytest.mark.parametrize("gone", [True, False])
def test_the_ledger_follows_a_file_that_moved_with_what_lies_beside_it_and_no_copy(world, gone):
    old = Source(world.source("a", "1 0 x").uri, siblings=(("science", world.source("b", "s").uri),))
    world.publish(world.plan(old).todo[0])
    record = next(Ledger(world.out).records())
    files = {"difference": SourceFile(uri=old.uri, sha256="x"), "science": SourceFile(uri=old.siblings[0][1])}
    Ledger(world.out).put(record.model_copy(update={"source_files": files}))
    new = Source(world.source("c", "1 0 x").uri, siblings=(("science", world.source("d", "s").uri),))
    if gone:
        Path(old.uri).unlink()
    assert world.plan(new, dry=True).skipped == 1
    assert next(Ledger(world.out).records()).source_files == files
    assert world.plan(new).skipped == 1
    record = next(Ledger(world.out).records())
    now = new if gone else old
    assert record.source_uri == now.uri
    assert {plane: (file.uri, file.sha256) for plane, file in record.source_files.items()} == {
        "difference": (now.uri, "x"),
        "science": (now.siblings[0][1], None),
    }
    if gone:  # another exposure by a corrected header
        assert [one.key.visit for one in world.plan(world.source("c", "2 0 x")).todo[0].superseded] == [1]


def test_what_cannot_be_identified_is_quarantined_and_the_rest_goes_on(world):
    plan = world.plan(world.source("a", "no 0 x"), world.source("b", "1 0 x"))
    assert (names(plan.todo), codes(plan), plan.seen) == (["b"], [("a", "missing_keyword")], 2)
    assert plan.quarantined[0].message.endswith("To fix, add it.")
    assert world.kept() == ["missing_keyword"]


def test_whatever_one_source_raises_the_rest_goes_on(world, monkeypatch):
    bad, good = world.source("a", "1 0 x"), world.source("b", "2 0 x")
    given = world.probe

    def probe(source, settings):
        if source == bad:
            raise ZeroDivisionError("in a library")
        return given(source, settings)

    monkeypatch.setattr(world, "probe", probe)
    plan = world.plan(bad, good)
    assert (names(plan.todo), codes(plan)) == (["b"], [("a", "unexpected_error")])
    assert "ZeroDivisionError: in a library" in plan.quarantined[0].message


def test_what_was_published_of_a_file_stays_when_it_cannot_be_grasped(world, monkeypatch):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    world.source("a", "1 0 longer")

    def probe(source, settings):
        raise RecursionError("too deep")

    monkeypatch.setattr(world, "probe", probe)
    plan = world.plan(source)
    assert (codes(plan), plan.withdrawn) == ([("a", "unexpected_error")], ())


def test_what_the_listing_refused_is_quarantined_with_its_reason(world):
    refusal = BadInput("bad_name", "a\\xff.fits", "the bytes of its name are not UTF-8.", "rename the file.")
    plan = world.plan(Source("a\\xff.fits", refusal=refusal), world.source("b", "2 0 x"))
    assert (names(plan.todo), codes(plan)) == (["b"], [("a\\xff.fits", "bad_name")])


def test_settings_that_no_exposure_could_use_end_the_plan(world, monkeypatch):
    def probe(source, settings):
        raise Misconfigured("unmapped", "fits.visit", "is not set.", "set it.")

    monkeypatch.setattr(world, "probe", probe)
    with pytest.raises(Misconfigured, match=r"fits\.visit"):
        world.plan(world.source("a", "1 0 x"))


def test_a_known_verdict_is_not_sought_again_until_its_reasons_change(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0], status="quarantined")
    plan = world.plan(source)
    assert (plan.todo, codes(plan)) == ((), [("a", "flood")])
    assert plan.quarantined[0].message == "too many rows"
    more = world.settings.model_copy(update={"execution": ExecutionSettings(max_detections=9)})
    assert names(world.plan(source, settings=more).todo) == ["a"]
    world.source("a", "1 0 better")
    assert names(world.plan(source).todo) == ["a"]


def test_tiles_that_are_missing_damaged_or_of_other_bytes_are_written_again_where_that_is_asked_for(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    sha = world.sha256_of(source, world.settings)
    info = plain_info(visit=1, source_sha256=sha)
    path, planes = tile_path(world.out, info), plain_planes()

    def due(**how):
        return [(one.why.code, one.sha256) for one in world.plan(source, **how).todo]

    assert (due(), due(tiles=True)) == ([], [("tiles", None)])  # whatever was there, it is made from the file
    write_exposure(path, info, planes, world.settings.tiles, "d")
    assert due(tiles=True) == []
    shard = path / "difference/c/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    assert (due(), due(tiles=True)) == ([], [("tiles", None)])
    write_exposure(path, plain_info(visit=1, source_sha256="0" * 64), planes, world.settings.tiles, "d")
    assert (due(), due(tiles=True)) == ([], [("tiles", None)])


@pytest.mark.parametrize("other", ["1 0 x", "1 0 other"])
def test_what_is_there_takes_the_place_of_a_file_that_is_gone(world, tmp_path, other):
    """Of a copy that was deleted, the original with files beside it; or what else says it is that exposure."""
    copy, science = world.source("a", "1 0 x"), world.source("science", "s")
    world.publish(world.plan(copy).todo[0])
    original = Source(world.source("b", other).uri, siblings=(("science", science.uri),))
    assert codes(world.plan(original)) == ([] if other == "1 0 x" else [("b", "conflict")])
    Path(copy.uri).unlink()
    plan = world.plan(original)
    assert (names(plan.todo), codes(plan), plan.todo[0].why.code) == (["b"], [], "input")
    world.raw.rename(tmp_path / "elsewhere")  # as where a disk is not there: other bytes do not take the place
    world.raw = tmp_path / "elsewhere"
    moved = Source(str(world.raw / "b"), siblings=(("science", str(world.raw / "science")),))
    plan = world.plan(moved)
    assert names(plan.todo) == (["b"] if other == "1 0 x" else [])


def test_of_copies_the_one_with_most_beside_it_is_searched(world):
    mask, science = world.source("mask", "mask"), world.source("science", "science")
    beside = {"a": (), "b": (("mask", mask.uri),), "c": (("mask", mask.uri), ("science", science.uri)), "d": ()}
    sources = [Source(world.source(name, "1 0 x").uri, siblings=planes) for name, planes in beside.items()]
    plan = world.plan(*sources)
    assert (names(plan.todo), plan.skipped, codes(plan)) == (["c"], 3, [])
    named = world.source("e_diff", "1 0 x")
    assert names(world.plan(*sources, named).todo) == ["e_diff"]


def test_a_copy_without_what_lay_beside_the_original_is_a_copy(world):
    original = world.source("a", "1 0 x")
    mask = world.source("mask", "mask")
    whole = Source(original.uri, siblings=(("mask", mask.uri),))
    plan = world.plan(whole, world.source("z", "1 0 x"), world.source("y", "1 0 other"))
    assert (names(plan.todo), plan.skipped, codes(plan)) == (["a"], 1, [("y", "conflict")])


@pytest.mark.parametrize("step", ["probe", "sha256_of"])
def test_what_cannot_be_read_this_time_has_failed_and_is_no_bad_input(world, monkeypatch, step):
    sources = [world.source("a", "1 0 x"), world.source("b", "1 0 x"), world.source("c", "2 0 x")]

    given = getattr(world, step)

    def broken(source, settings):
        if source.uri.endswith("b"):
            raise Retryable("io_error", source.uri, "timed out.", "try again later.")
        return given(source, settings)

    monkeypatch.setattr(world, step, broken)
    plan = world.plan(*sources)
    assert (names(plan.todo), plan.skipped, plan.quarantined) == (["a", "c"], 0, ())
    assert [one.code for one in plan.failed] == ["io_error"]
    assert plan.seen == 3
    assert world.kept() == []


def test_a_record_that_cannot_be_read_counts_for_nothing(world):
    source = world.source("a", "1 0 x")
    item = world.plan(source).todo[0]
    world.publish(item)
    overwrite_record(world.out, item.key, b"{")
    assert names(world.plan(source).todo) == ["a"]


def test_other_planes_from_the_same_bytes_redo(world):
    source, plane = world.source("a", "1 0 x"), world.source("plane", "plane")
    world.publish(world.plan(Source(source.uri, siblings=(("mask", plane.uri),))).todo[0])
    assert world.plan(Source(source.uri, siblings=(("mask", plane.uri),))).skipped == 1
    assert names(world.plan(Source(source.uri, siblings=(("variance", plane.uri),))).todo) == ["a"]


def test_a_corrected_identity_names_what_it_supersedes(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    world.source("a", "2 0 x")
    (item,) = world.plan(source).todo
    assert (item.key.visit, [one.visit for one in item.superseded]) == (2, [1])
    # A copy of the old content stands for the old exposure: it stays.
    (item,) = world.plan(source, world.source("b", "1 0 x")).todo
    assert (item.key.visit, item.superseded) == (2, ())


def test_what_was_assumed_of_a_published_exposure_is_remembered(world):
    source = world.source("a", "1 0 x")
    world.publish(world.plan(source).todo[0])
    (record,) = Ledger(world.out).records()
    Ledger(world.out).put(record.model_copy(update={"flags": ("assumed_psf",)}))
    assert [one.flags for one in world.plan(source).published] == [("assumed_psf",)]


def test_what_was_published_of_a_file_that_went_bad_is_withdrawn(world):
    source = world.source("a", "1 0 x")
    catalogue = world.publish(world.plan(source).todo[0])
    world.source("a", "no 0 x")
    plan = world.plan(source)
    assert (codes(plan), [one.visit for one in plan.withdrawn]) == ([("a", "missing_keyword")], [1])
    assert not catalogue.exists()
    assert Ledger(world.out).count() == 0


@pytest.mark.parametrize(
    ("code", "change"),
    [("ambiguous_image", os.utime), ("unreadable_file", os.unlink)],  # copied back, say: its bytes are the same; gone
)
def test_what_was_published_of_a_file_that_is_refused_now_or_gone_stays(world, monkeypatch, code, change):
    source = world.source("a", "1 0 x")
    catalogue = world.publish(world.plan(source).todo[0])
    change(source.uri)

    def refused(source, settings):
        raise BadInput(code, source.uri, "holds several images, or is not there.", "see to it.")

    monkeypatch.setattr(world, "probe", refused)
    assert codes(world.plan(source)) == [("a", code)]
    assert catalogue.exists()
    assert Ledger(world.out).count() == 1


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("code", ["unreadable_file", "ambiguous_image"])
def test_what_is_up_to_date_is_not_in_quarantine(world, monkeypatch, code, dry):
    source, other = world.source("a", "1 0 x"), world.source("b", "no 0 x")
    world.publish(world.plan(source, other).todo[0])

    def refused(source, settings):
        raise BadInput(code, source.uri, "may not be read, or not so.", "see to it.")

    os.utime(source.uri)
    with monkeypatch.context() as patch:
        patch.setattr(world, "probe", refused)
        assert codes(world.plan(source)) == [("a", code)]
    assert world.plan(source, dry=dry).skipped == 1
    assert world.kept() == ([code] if dry else []) + ["missing_keyword"]


def test_a_reason_that_cannot_be_written_fails_its_source_alone(world, monkeypatch):
    def full(*_):
        raise Retryable("disk_full", "quarantine", "could not be written.", "free space.")

    monkeypatch.setattr(Quarantine, "put", full)
    plan = world.plan(world.source("a", "no 0 x"), world.source("b", "1 0 x"))
    assert (names(plan.todo), plan.quarantined, [one.code for one in plan.failed]) == (["b"], (), ["disk_full"])
    assert plan.seen == 2


def test_a_dry_plan_is_the_same_and_leaves_no_trace(world):
    world.publish(world.plan(world.source("a", "1 0 x")).todo[0])
    sources = [world.source("a", "1 0 y"), world.source("b", "odd 0 x"), world.source("c", "2 0 x")]
    before = {path: path.read_bytes() for path in world.out.rglob("*") if path.is_file()}
    dry = Planner(world.out, world.settings, PIPELINE, world.probe, world.sha256_of, dry=True).plan(sources)
    assert {path: path.read_bytes() for path in world.out.rglob("*") if path.is_file()} == before
    assert [(item.key.visit, item.why.code) for item in dry.todo] == [(1, "input"), (2, "new")]
    plan = world.plan(*sources)
    assert (dry.todo, dry.quarantined, dry.seen) == (plan.todo, plan.quarantined, plan.seen)


KEY = ExposureKey(night="20260101", visit=1, detector=0)


@pytest.mark.parametrize("status", [None, "done", "quarantined", "failed"])
@pytest.mark.parametrize("winner", [False, True])
@pytest.mark.parametrize("copies", [0, 1])
@pytest.mark.parametrize("why", [None, NEW])
def test_what_stands_for_an_exposure_and_whether_it_is_settled(status, winner, copies, why):
    record = None
    if status is not None:
        record = exposure_record(
            KEY, source_uri="a", status=status, reason=None if status == "done" else "flood: too many: 9"
        )
    chosen = Chosen(("20260101", 1, 0), record, Item(Source("a"), KEY, None) if winner else None, copies, (), why)
    assert chosen.claimed is (winner or copies == 1)
    if record is None:
        published = False
    elif winner:  # the results hold as long as there is no reason to make them again
        published = status == "done" and why is None
    else:  # the source of the record was not given, but another with the same pixels
        published = copies == 1
    assert chosen.published is published
    settled = record is not None and winner and why is None and not published
    assert chosen.verdict == (Trouble(uri="a", code="flood", message="too many: 9") if settled else None)
