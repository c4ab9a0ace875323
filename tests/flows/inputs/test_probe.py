from pathlib import Path

import numpy as np
import pytest

from flows.inputs.probe import probe, read
from flows.inputs.source import Source
from schemas.errors import BadInput, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import Settings

SETTINGS = Settings()


def test_the_name_does_not_matter(write_ztf, tmp_path):
    path = Path(write_ztf())
    other = tmp_path / "exposure.dat"
    other.write_bytes(path.read_bytes())
    key = ExposureKey(night="20190921", visit=99429086, detector=59)
    assert probe(Source(str(path)), SETTINGS) == probe(Source(str(other)), SETTINGS) == key


def test_headers_suffice(write_ztf):
    """Pixels that cannot be decoded are no business of the probe."""
    path = Path(write_ztf())
    data = bytearray(path.read_bytes())
    data[-6000:-3000] = bytes(3000)
    path.write_bytes(data)
    assert probe(Source(str(path)), SETTINGS).visit == 99429086
    with pytest.raises(BadInput, match="checksum"):
        read(Source(str(path)), SETTINGS)


def test_stacks_go_by_their_content_too(tmp_path):
    path = tmp_path / "asteroid_difference_images_7.npz"
    np.savez(path, data=np.zeros((2, 30, 30), np.float32))
    assert probe(Source(str(path), index=1), SETTINGS).visit == 7001
    with pytest.raises(BadInput, match="image None of a stack"):
        probe(Source(str(path)), SETTINGS)


def test_a_file_that_is_none_of_these(tmp_path):
    path = tmp_path / "image.fits"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    for call in (probe, read):
        with pytest.raises(BadInput, match="neither FITS"):
            call(Source(str(path)), SETTINGS)


def test_a_folder_that_could_not_be_listed(tmp_path):
    with pytest.raises(BadInput, match=r"gone/: the folder cannot be listed") as caught:
        probe(Source(f"{tmp_path}/gone/"), SETTINGS)
    assert caught.value.code == "unreadable_folder"
    with pytest.raises(Retryable, match="run again"):
        probe(Source(f"{tmp_path}/"), SETTINGS)
