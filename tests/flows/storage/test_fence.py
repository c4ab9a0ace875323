from contextvars import copy_context

import pytest

from flows.storage.atomic import new_folder, write_file
from flows.storage.fence import Fence, behind, fenced_task, require_held
from schemas.errors import Misconfigured

pytest_plugins = ("tests.support.s3_fixture",)

OURS, THEIRS = b"ours", b"theirs"


def put_file(out):
    write_file(out / "catalogs/a.parquet", b"new", out / "staging")


def put_group(out):
    with new_folder(out / "tiles/a.zarr") as staged:
        (staged / "zarr.json").write_bytes(b"{}")
        (staged / "c").mkdir()
        (staged / "c/0").write_bytes(b"new")


def refused(out, put, there):
    fence = Fence(out / "lease.json", OURS)
    if there is not None:
        write_file(fence.path, there, out / "staging")
    with pytest.raises(Misconfigured) as caught:
        fenced_task(fence, put, out)
    assert caught.value.code == "taken_over"
    assert not (out / "catalogs/a.parquet").exists()
    assert not (out / "tiles/a.zarr/zarr.json").exists()
    put(out)  # who has no fence is not asked
    write_file(fence.path, OURS, out / "staging")
    fenced_task(fence, put, out)


@pytest.mark.parametrize("put", [put_file, put_group])
@pytest.mark.parametrize("there", [None, THEIRS])
def test_nothing_gets_its_name_without_the_lease(tmp_path, put, there):
    refused(tmp_path, put, there)


@pytest.mark.parametrize("put", [put_file, put_group])
def test_nothing_gets_its_name_in_a_bucket_without_the_lease(bucket, put):
    refused(bucket, put, THEIRS)


def test_a_lease_that_goes_while_a_group_is_filled_keeps_it_from_its_name(tmp_path):
    fence = Fence(tmp_path / "lease.json", OURS)
    fence.path.write_bytes(OURS)

    def lose(out):
        with new_folder(out / "a.zarr") as staged:
            (staged / "zarr.json").write_bytes(b"{}")
            fence.path.write_bytes(THEIRS)

    with pytest.raises(Misconfigured, match="taken"):
        fenced_task(fence, lose, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lease.json"]


def test_a_fence_is_of_its_task_alone(tmp_path):
    fence = Fence(tmp_path / "lease.json", OURS)
    with behind(fence):
        with behind(None):
            require_held(tmp_path)
        with pytest.raises(Misconfigured):
            copy_context().run(require_held, tmp_path)
    require_held(tmp_path)
