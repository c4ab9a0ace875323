from io import BytesIO

import fastavro
import pytest

from flows.publish.container import BLOCK, has_header, require_same_night, write_container
from flows.publish.rubin_schema import SCHEMAS, deserialise, parsed
from flows.storage.bucket_path import BucketPath
from schemas.errors import BadInput
from tests.support.memory_store import bucket_in_memory
from tests.support.packets import packet


def bodies(version="11.1", count=5):
    return [packet(n, version).body for n in range(count)]


@pytest.mark.parametrize("version", SCHEMAS)
def test_fastavro_reads_what_is_written(tmp_path, version):
    path = tmp_path / "new" / "7.avro"
    length = write_container(path, parsed(version), bodies(version))
    assert length == path.stat().st_size
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        assert list(reader) == [deserialise(one, version) for one in bodies(version)]
        assert reader.codec == "null"
        assert reader.writer_schema["name"] == f"lsst.v{version.replace('.', '_')}.alert"


def test_a_container_without_alerts_is_one(tmp_path):
    write_container(tmp_path / "7.avro", parsed("11.1"), [])
    with (tmp_path / "7.avro").open("rb") as file:
        assert list(fastavro.reader(file)) == []


def test_the_header_says_of_which_night_it_is(tmp_path):
    path = tmp_path / "7.avro"
    write_container(path, parsed("11.1"), bodies(), "20260101")
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        assert reader.metadata["nightstride.night"] == "20260101"
        assert list(reader) == [deserialise(one, "11.1") for one in bodies()]
    require_same_night(path, 7, "20260101")
    require_same_night(tmp_path / "8.avro", 8, "20260102")
    with pytest.raises(BadInput, match=r"7\.avro: holds alerts of night 20260101: those of visit 7 of night 20260102"):
        require_same_night(path, 7, "20260102")
    plain = tmp_path / "plain.avro"
    write_container(plain, parsed("11.1"), bodies())
    for content in (
        b"x",
        b"no Avro at all, but of some length, so that there is something to be compared",
        plain.read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="of another program"):
            require_same_night(path, 7, "20260101")


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_what_ends_within_its_header_is_as_good_as_none(tmp_path, monkeypatch, where):
    folder = tmp_path if where == "folder" else bucket_in_memory(monkeypatch)[0]
    file = BytesIO()
    write_container(file, parsed("11.1"), bodies(), "20260102")  # of whatever night: no alert is in it
    whole, path = file.getvalue(), folder / "7.avro"
    header = whole.index(b"20260102") + len(b"20260102")
    for length in (0, 1, 4, 20, header - 1):
        put(path, whole[:length])
        require_same_night(path, 7, "20260101")
    put(path, whole[:header])
    with pytest.raises(BadInput, match="holds alerts of night 20260102"):
        require_same_night(path, 7, "20260101")
    put(path, b"")
    assert not has_header(path)
    write_container(path, parsed("11.1"), bodies(), "20260101")
    assert has_header(path)
    assert len(list(fastavro.reader(BytesIO(path.read_bytes())))) == len(bodies())


def put(path, content):
    path.write(content) if isinstance(path, BucketPath) else path.write_bytes(content)


def test_blocks_end(tmp_path):
    body, file = bodies()[0], BytesIO()
    count = 2 * BLOCK // len(body) + 2
    write_container(file, parsed("11.1"), (body for _ in range(count)))
    file.seek(0)
    blocks = list(fastavro.block_reader(file))
    assert len(blocks) == 3
    assert sum(block.num_records for block in blocks) == count
    file = BytesIO()
    write_container(file, parsed("11.1"), (bytes(BLOCK // 2) for _ in range(4)))
    file.seek(0)
    assert [block.num_records for block in fastavro.block_reader(file)] == [2, 2]  # as soon as they are full


def test_the_same_alerts_give_the_same_bytes():
    one, other = BytesIO(), BytesIO()
    write_container(one, parsed("11.1"), bodies())
    write_container(other, parsed("11.1"), iter(bodies()))
    assert one.getvalue() == other.getvalue()


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "7.avro"
    write_container(path, parsed("11.1"), bodies())
    before = path.read_bytes()

    def ends():
        yield bodies()[0]
        raise RuntimeError("ends here")

    with pytest.raises(RuntimeError, match="ends here"):
        write_container(path, parsed("11.1"), ends())
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["7.avro"]
