from benchmarks.exposure_pass import SETTINGS, Clock, finish, search
from flows.pipeline.stage_run import CopySearch
from flows.storage.zarr_tiles import write_exposure
from flows.training.bench.exposure import bench_exposure


def test_what_is_timed_is_the_search_of_a_run(tmp_path):
    exposure = bench_exposure((600, 1100))  # two tiles
    planes = {"difference": exposure.difference, "mask": exposure.mask}
    write_exposure(tmp_path / "one.zarr", exposure.info, planes, SETTINGS.tiles, "test")
    clock = Clock()
    _, found = finish(tmp_path / "one.zarr", search(tmp_path / "one.zarr", clock), clock)
    searched = CopySearch(SETTINGS)(planes, exposure.info)
    assert len(found) > 0
    assert found.drop_columns("diaSourceId").equals(searched.drop_columns("diaSourceId"))
    assert list(clock) == ["read tiles", "detect", "merge", "measure"]
