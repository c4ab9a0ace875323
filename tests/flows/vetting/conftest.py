import shutil

import httpx
import pytest

from flows.vetting.server import Workplace
from tests.support.shared import made_once
from tests.support.vetting import TOKEN, build, serving


@pytest.fixture(scope="session")
def vet_night(tmp_path_factory):
    """An output folder that no test changes."""
    return made_once(tmp_path_factory, "vet", lambda folder: build(folder / "out")) / "out"


@pytest.fixture(scope="session")
def vet_index(vet_night):
    return Workplace(vet_night).index()


@pytest.fixture(scope="module")
def out(vet_night, tmp_path_factory):
    """The same night in a folder of its own, which verdicts may be added to; its files are those of the other."""
    folder = tmp_path_factory.mktemp("vet") / "out"
    folder.mkdir()
    for path in vet_night.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def served(out):
    with serving(Workplace(out, recheck=0.0)) as found:
        yield found


@pytest.fixture
def place(served, out):
    """What the server shows, without a verdict."""
    shutil.rmtree(out / "vetting", ignore_errors=True)
    served.place.__dict__.update(Workplace(out, recheck=0.0).__dict__)
    return served.place


@pytest.fixture
def stranger(served, place):
    """Somebody without a token."""
    # Without the certificates of authorities: reading them takes longer than most of these tests.
    with httpx.Client(base_url=served.address, trust_env=False, timeout=60, verify=False) as client:
        yield client


@pytest.fixture
def client(stranger, served):
    """Somebody who has come in and given a name."""
    assert stranger.get("/", params={"token": TOKEN}).status_code == 303
    stranger.headers["X-CSRF-Token"] = served.doors.secret("csrf")
    assert stranger.post("/user", json={"user": "Henrietta"}).status_code == 200
    return stranger
