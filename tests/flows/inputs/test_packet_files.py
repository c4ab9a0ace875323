import gzip
import shutil
import tarfile

import pytest

from flows.inputs.packet_files import packet_files, read_packets, read_records
from schemas.errors import BadInput, Misconfigured
from tests.support.ztf import FOLDER, container, fits_bytes, real_packets, record, write


@pytest.fixture
def folder(tmp_path):
    """Three packets in two files, and a text."""
    write(tmp_path / "in" / "b" / "1.avro", record(1), record(2, rb=0.1))
    write(tmp_path / "in" / "2.avro", record(3))
    (tmp_path / "in" / "b" / "notes.txt").write_text("no packet")
    return tmp_path / "in"


def tarball(path, folder):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "a")
    return path


def test_folder_tarball_and_file(folder, tmp_path):
    packed = tarball(tmp_path / "all.tar.gz", folder)
    for given in (folder, packed):
        assert sorted(packet.candid for packet in read_packets(given)) == [1, 2, 3]
    shutil.copy(folder / "2.avro", tmp_path / "named")
    assert [packet.candid for packet in read_packets(tmp_path / "named")] == [3]
    assert packet_files([str(packed), str(folder), str(packed)]) == [
        str(packed),
        *(str(folder / name) for name in ("2.avro", "b/1.avro")),
    ]


def test_records_are_named(folder, tmp_path):
    packed = tarball(tmp_path / "all.tar.gz", folder)
    names = [one.name for uri in packet_files([str(folder), str(packed)]) for one in read_records(uri)]
    one, two = folder / "b" / "1.avro", folder / "2.avro"
    assert sorted(names) == sorted(
        [str(two), str(one), f"{one}[1]", f"{packed}!a/2.avro", f"{packed}!a/b/1.avro", f"{packed}!a/b/1.avro[1]"]
    )


def test_inputs_without_packets(tmp_path):
    (tmp_path / "a.fits").write_bytes(fits_bytes([[1.0, 2.0]]))
    (tmp_path / "docs.tar.gz").write_bytes(b"no tarball")
    assert packet_files([str(tmp_path), str(tmp_path / "absent"), "butler:repo"]) == []


def test_a_file_whose_name_says_otherwise_is_no_packet(folder, tmp_path):
    shutil.copy(folder / "2.avro", tmp_path / "a.fits")
    (folder / "2.avro").rename(folder / "2")
    assert packet_files([str(tmp_path / "a.fits")]) == []
    assert packet_files([str(folder)]) == [str(folder / "b" / "1.avro")]  # only what is named is looked into


@pytest.mark.parametrize("other", ["a.fits", "absent", "butler:repo"])
def test_packets_and_images_are_not_searched_together(folder, tmp_path, other):
    (tmp_path / "a.fits").write_bytes(fits_bytes([[1.0, 2.0]]))
    named = other if ":" in other else str(tmp_path / other)
    with pytest.raises(Misconfigured) as raised:
        packet_files([str(folder), named])
    assert (raised.value.code, raised.value.where) == ("mixed_inputs", named)
    shutil.copy(tmp_path / "a.fits", folder)
    with pytest.raises(Misconfigured, match=r"a\.fits"):
        packet_files([str(folder)])


def test_nothing_to_read(tmp_path):
    with pytest.raises(Misconfigured, match="holds no alert packets") as raised:
        list(read_packets(tmp_path))
    assert raised.value.code == "no_packets"
    with pytest.raises(Misconfigured, match=r"absent\.avro: does not exist"):
        list(read_packets(tmp_path / "absent.avro"))


@pytest.mark.parametrize("content", [b"not avro", b"", container(record())[:-2000]])
def test_a_bad_file_is_named_and_the_rest_goes_on(folder, tmp_path, content):
    (folder / "a.avro").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.avro"):
        list(read_packets(folder))
    packed = tarball(tmp_path / "all.tar.gz", folder)
    for given in (folder, packed):
        found = [one for uri in packet_files([str(given)]) for one in read_records(uri)]
        (bad,) = [one for one in found if isinstance(one.content, BadInput)]
        assert bad.name.endswith("a.avro")
        assert len(found) == 4


def test_a_tarball_that_ends_early(folder, tmp_path):
    packed = tarball(tmp_path / "all.tar.gz", folder)
    plain = gzip.decompress(packed.read_bytes())
    short = tmp_path / "short.tar"
    short.write_bytes(plain[: len(plain) // 2])
    found = list(read_records(str(short)))
    bad = [one.name for one in found if isinstance(one.content, BadInput)]
    assert bad == [f"{short}!a/b/1.avro", str(short)]  # the packet that ends early, and the tarball
    assert found[-1].content.code == "bad_tarball"
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(packed.read_bytes()[:-4000])
    assert list(read_records(str(cut)))[-1].content.code == "bad_tarball"


def test_a_file_that_cannot_be_read(tmp_path):
    (found,) = read_records(str(tmp_path / "absent.avro"))
    assert found.content.code == "unreadable_file"


@real_packets
def test_alerts_of_rubin_are_told_apart():
    found = [one.content for one in read_records(str(FOLDER / "rubin_v9.tar.gz"))]
    assert len(found) == 62
    assert {one.code for one in found} == {"other_packet"}
    assert "Rubin" in str(found[0])
