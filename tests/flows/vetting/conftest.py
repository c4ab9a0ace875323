import pytest
from starlette.testclient import TestClient

from flows.vetting.app import make_app
from flows.vetting.guard import Guard
from flows.vetting.server import Workplace
from tests.support.shared import made_once
from tests.support.vetting import ADDRESS, TOKEN, build, let_in


@pytest.fixture(scope="session")
def vet_night(tmp_path_factory):
    """An output folder that no test changes."""
    return made_once(tmp_path_factory, "vet", lambda folder: build(folder / "out")) / "out"


@pytest.fixture(scope="session")
def vet_index(vet_night):
    return Workplace(vet_night).index()


@pytest.fixture
def out(vet_night, tmp_path):
    """The same night in a folder of its own, which verdicts may be added to; its files are those of the other."""
    folder = tmp_path / "out"
    folder.mkdir()
    for path in vet_night.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def place(out):
    return Workplace(out, recheck=0.0)


@pytest.fixture
def stranger(place):
    """Somebody without a token."""
    with TestClient(Guard(make_app(place, let_in()), let_in()), ADDRESS, follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(stranger):
    """Somebody who has come in and given a name."""
    assert stranger.get("/", params={"token": TOKEN}).status_code == 303
    stranger.headers["X-CSRF-Token"] = let_in().secret("csrf")
    assert stranger.post("/user", json={"user": "Henrietta"}).status_code == 200
    return stranger
