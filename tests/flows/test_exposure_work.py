import pytest

from flows.adapters.ledger import Ledger
from flows.adapters.probe import probe
from flows.admission import admission
from flows.books import Books
from flows.digest import file_digest
from flows.exposure_run import shared_out
from flows.exposure_tasks import finish, search, store, tile_path
from flows.exposure_work import left_of, work, worked
from flows.outcome import Outcome
from flows.plan import Item
from schemas.errors import Retryable
from schemas.settings import DetectSettings, Settings, TileSettings
from stages import PIPELINE

SETTINGS = Settings(tiles=TileSettings(tile=112, chunk=28), detect=DetectSettings(model="basic_cnn", threshold=0.2))


@pytest.fixture
def key(source):
    return probe(source, SETTINGS)


def shared(source, key, out):
    """Do the same as several tasks, for an exposure of which nothing is known."""
    stored = store(source, key, None, out, SETTINGS)
    left, path = left_of(stored, None, out, SETTINGS), tile_path(out, key)
    parts = [search(path, tiles, SETTINGS) for tiles in shared_out(left.tiles, 3)]
    assert len(parts) == 3
    return worked(stored, None, left, parts, [finish(path, parts, stored.lineage, out, SETTINGS)])


def test_one_task_publishes_the_bytes_that_several_do(source, key, tmp_path):
    alone = work(source, key, None, None, tmp_path / "a", SETTINGS)
    several = shared(source, key, tmp_path / "b")
    assert alone.datasets == several.datasets
    for record in alone.datasets.values():
        assert file_digest(tmp_path / "a" / record.path) == file_digest(tmp_path / "b" / record.path) == record.sha256
    assert alone.datasets["dia_source"].rows > 0
    same = ("windows", "unscored", "searched", "causes", "not_run")
    assert [getattr(alone, name) for name in same] == [getattr(several, name) for name in same]
    assert alone.windows > 0
    assert alone.seconds.keys() == several.seconds.keys() >= {"read", "write tiles", "detect", "measure", "publish"}


def test_what_is_published_stays_and_is_not_searched_again(source, key, tmp_path):
    first = work(source, key, None, None, tmp_path, SETTINGS)
    item = Item(source, key, None)
    Books(tmp_path, SETTINGS, PIPELINE).done(item, first.stored, first.datasets, Outcome(item, "done"))
    record = Ledger(tmp_path).get(key)
    (tmp_path / first.datasets["injection"].path).unlink()
    again = work(source, key, first.stored.info.source_sha256, record, tmp_path, SETTINGS)
    assert (again.stored.reused, again.searched, again.windows) == (True, False, 0)
    assert again.datasets == first.datasets
    assert again.causes == record.causes


def test_nothing_is_published_for_a_run_that_is_over(source, key, tmp_path):
    with admission(tmp_path, SETTINGS.store) as terms:
        pass
    with pytest.raises(Retryable, match="is over"):
        work(source, key, None, None, tmp_path, SETTINGS, terms)
    assert not list((tmp_path / "catalogs").rglob("*.parquet"))
    with admission(tmp_path, SETTINGS.store) as terms:
        assert work(source, key, None, None, tmp_path, SETTINGS, terms).datasets
