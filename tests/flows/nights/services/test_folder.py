import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import make_url

from flows.nights.services import processes
from flows.nights.services.folder import Addresses, ServiceFolder, made, opened, private_file
from flows.nights.services.processes import Daemon
from flows.nights.services.stack import Worker, _answer
from schemas.errors import Misconfigured, Retryable
from tests.support.webhook import other_program


def test_what_is_made_once_stays(tmp_path):
    folder = made(tmp_path / "s", {"host": None, "port": 4321, "postgres_port": None})
    assert folder.addresses == Addresses(host="127.0.0.1", port=4321, postgres_port=5442)
    again = made(tmp_path / "s", {"port": None})
    assert (again.addresses, again.auth, again.database_password) == (
        folder.addresses, folder.auth, folder.database_password,
    )  # fmt: skip
    assert opened(tmp_path / "s").auth == folder.auth
    assert made(tmp_path / "other", {}).database_password != folder.database_password


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b""])
def test_what_another_program_says_on_the_port_is_no_answer(tmp_path, says):
    with other_program(says) as port:
        assert _answer(made(tmp_path, {"port": port}), "ready") is None


def test_no_proxy_is_asked_for_what_the_services_say(tmp_path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with other_program(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue") as port:
        folder = made(tmp_path, {"port": port})
        assert _answer(folder, "ready") is True
        given = []
        monkeypatch.setattr(Daemon, "start", lambda self, command, environment: given.append(environment))
        Worker(folder).start()
    assert (given[0]["no_proxy"], given[0]["http_proxy"]) == ("127.0.0.1", "http://127.0.0.1:9")


def test_other_addresses_are_refused_afterwards(tmp_path):
    made(tmp_path, {"port": 4321})
    with pytest.raises(Misconfigured, match=r"services\.json: says .*port=4321.*asked for were \{'port': 4322\}"):
        made(tmp_path, {"port": 4322})


def test_secrets_are_for_their_owner_alone(tmp_path):
    folder = made(tmp_path / "s", {})
    secrets = {path.name for path in folder.path.iterdir() if path.is_file() and path.stat().st_mode & 0o077 == 0}
    assert {"client.env", "api-password", "database-password"} <= secrets
    assert folder.database_password not in repr(folder)
    (folder.path / "api-password").chmod(0o644)
    with pytest.raises(Misconfigured, match=r"others may read this secret.*To fix, chmod 600"):
        _ = opened(folder.path).auth


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_others_may_pass_through_the_folder_and_write_nothing(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = made(tmp_path / "s", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o755
    assert stat.S_IMODE(folder.home.stat().st_mode) == 0o700


def test_a_private_file_is_never_that_of_somebody_else(tmp_path):
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "file").chmod(0o666)
    private_file(tmp_path / "file", "ours")
    assert (tmp_path / "file").read_text() == "ours"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_the_database_has_a_url_that_sqlalchemy_reads(tmp_path):
    folder = ServiceFolder(tmp_path, Addresses(postgres_port=5999))
    private_file(tmp_path / "database-password", "a/b@c:d %'\n")
    url = make_url(folder.database_url)
    assert (url.host, url.port, url.database, url.username) == ("127.0.0.1", 5999, "prefect", "prefect")
    assert url.password == "a/b@c:d %'"


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("fd00::5", "[fd00::5]"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_the_api_has_an_address_that_can_be_called(tmp_path, host, seen):
    assert ServiceFolder(tmp_path, Addresses(host=host)).api == f"http://{seen}:4200/api"


def test_a_port_that_is_none_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match=r"--port: must be less than 65536, got 70000"):
        made(tmp_path / "s", {"port": 70000})
    assert not (tmp_path / "s").exists()


def test_a_folder_without_services_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match=r"services\.json: does not exist\..*nightstride services up"):
        opened(tmp_path)
    (tmp_path / "services.json").write_text("{")
    with pytest.raises(Misconfigured, match=r"services\.json: cannot be read.*To fix, correct it, or name another"):
        opened(tmp_path)


def test_an_empty_secret_is_refused(tmp_path):
    made(tmp_path, {})
    private_file(tmp_path / "api-password", "\n")
    with pytest.raises(Misconfigured, match="this secret is empty"):
        _ = opened(tmp_path).auth


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((Misconfigured, Retryable), match="file"):
        made(tmp_path / "file" / "services", {})


def test_many_at_once_make_one_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: made(tmp_path / "s", {}), range(8)))
    assert len({(folder.auth, folder.database_password) for folder in folders}) == 1
    assert folders[0].auth in (tmp_path / "s" / "client.env").read_text()
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.startswith(".")]


def test_a_file_that_cannot_be_written_whole_leaves_what_was(tmp_path, monkeypatch):
    private_file(tmp_path / "file", "before")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Retryable):
        private_file(tmp_path / "file", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]


@pytest.mark.parametrize(("secret", "said"), [(None, "C.UTF-8 none"), ({"PGPASSWORD": "hidden"}, "C.UTF-8 hidden")])
def test_a_program_of_postgresql_is_told_its_secret_and_nothing_of_ours(monkeypatch, secret, said):
    monkeypatch.setattr(processes.os, "geteuid", lambda: 1000)  # whoever is not root stays who they are
    monkeypatch.setenv("OURS", "not yours")
    found = processes._called(["sh", "-c", 'cat; echo "$LC_ALL ${PGPASSWORD:-none}$OURS"'], secret, "asked: ")
    assert (found.returncode, found.stdout) == (0, f"asked: {said}\n")
