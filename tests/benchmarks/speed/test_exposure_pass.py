from benchmarks.speed.exposure_pass import SETTINGS, Clock, finish, search
from flows.pipeline.search_pixels import search_pixels
from flows.storage.zarr_tiles import write_exposure
from flows.training.bench.exposure import bench_exposure


def test_what_is_timed_is_the_search_of_a_run(tmp_path):
    exposure = bench_exposure((600, 1100))  # two tiles
    write_exposure(tmp_path / "one.zarr", exposure.info, exposure.planes, SETTINGS.tiles, "test")
    clock = Clock()
    _, found = finish(tmp_path / "one.zarr", search(tmp_path / "one.zarr", clock), clock)
    assert len(found) > 0
    assert found.equals(search_pixels(exposure.planes, exposure.info, SETTINGS)["dia_source"].rows)
    assert list(clock) == ["read tiles", "detect", "merge", "measure"]
