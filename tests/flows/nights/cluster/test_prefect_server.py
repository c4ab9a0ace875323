import os
import subprocess
import sys
from base64 import b64encode
from unittest.mock import patch
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import httpx
import pytest

from flows.nights.cluster import prefect_server
from flows.nights.cluster.prefect_server import PrefectServer, default_home, past_proxies
from schemas.errors import Misconfigured
from tests.support.webhook import other_program

pytest_plugins = ("tests.support.night_fixture",)


@pytest.mark.parametrize("forked", [True, False])
def test_a_server_of_our_own_answers_and_ends_with_its_parent(prefect_api, tmp_path, forked):
    """It is forked from a process that has no other thread, and a new interpreter beside one that has."""
    assert urlopen(f"{prefect_api['PREFECT_API_URL']}/health").status == 200
    busy = "" if forked else "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    code = (
        f"{busy}import os, signal, psutil\nfrom flows.nights.cluster.prefect_server import PrefectServer\n"
        "server = PrefectServer()\nserver.wait()\n"
        "print(server.url, psutil.Process().children()[0].cmdline() == psutil.Process().cmdline(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    for name in ("trace.py", "uvicorn.py"):  # what lies where a run is started is not imported
        (tmp_path / name).write_text("raise SystemExit(3)\n")
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    url, same = run.stdout.split()
    assert same == str(forked)
    assert url.startswith("http://127.0.0.1:"), run.stderr
    for _ in range(600):
        try:
            urlopen(f"{url}/health", timeout=1)
        except (URLError, OSError):
            break
    else:
        pytest.fail("the server outlives its parent")


def test_a_server_that_is_killed_while_it_waits_keeps_nobody_waiting():
    code = (
        "import psutil, time\nfrom flows.nights.cluster.prefect_server import PrefectServer\nserver = PrefectServer()\n"
        "(child,) = psutil.Process().children()\n"
        "while child.num_threads() < 2 or child.status() != psutil.STATUS_SLEEPING:\n    pass\n"
        "time.sleep(0.5)\nchild.kill()\nserver.begin()\nprint('begun', flush=True)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    arguments = [sys.executable, "-P", "-c", code]
    run = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (run.stdout, run.returncode) == ("begun\n", 0), run.stderr


def test_who_does_not_know_its_password_gets_nothing(prefect_api):
    url, password = prefect_api["PREFECT_API_URL"], prefect_api["PREFECT_API_AUTH_STRING"]
    for given, status in ((None, 401), ("nightstride:", 401), (password[:-1], 401), (password, 200)):
        asked = Request(f"{url}/flows/filter", b"{}", {"Content-Type": "application/json"})
        if given is not None:
            asked.add_header("Authorization", f"Basic {b64encode(given.encode()).decode()}")
        try:
            answer = urlopen(asked).status
        except HTTPError as error:
            answer = error.code
        assert answer == status


@pytest.mark.parametrize("url", [None, ""])  # as `${PREFECT_API_URL:-}` of a file of Compose is
def test_each_server_has_a_password_of_its_own(prefect_api, tmp_path, url):
    known = {"PREFECT_API_AUTH_STRING": "nightstride:mine", "PREFECT_HOME": str(tmp_path)}
    with patch.dict(os.environ, known):
        os.environ.pop("PREFECT_API_URL", None)
        os.environ.update({} if url is None else {"PREFECT_API_URL": url})
        PrefectServer().stop()
        made = os.environ["PREFECT_API_AUTH_STRING"]
    assert made not in ("nightstride:mine", prefect_api["PREFECT_API_AUTH_STRING"])
    assert len(made) > 40


SAYS = "import os; os.write(2, b'no space left'); "
"""Last words of a server that ends before it answers."""


@pytest.mark.parametrize(
    ("times", "end", "told"), [(1, "exit(3)", "code 3"), (2, "exit(3)", "code 3"), (2, "os.abort()", "signal 6")]
)
def test_a_server_that_ends_before_it_answers_is_started_once_more(prefect_home, monkeypatch, times, end, told):
    started, right, left = [], prefect_server._started, times

    def start(own):
        nonlocal left
        left -= 1
        if left < 0:
            process = right(own)
        else:
            popen = subprocess.Popen([sys.executable, "-c", SAYS + end], stderr=own.words)
            process = prefect_server._Process(lambda: None, popen.poll, popen.wait)
        started.append(process)
        return process

    monkeypatch.setattr(prefect_server, "_started", start)
    monkeypatch.setattr(prefect_server, "_alone", lambda: False)
    with patch.dict(os.environ, {"PREFECT_HOME": str(prefect_home)}):
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            os.environ.pop(name, None)
        server = PrefectServer()
        try:
            if times == 2:
                with pytest.raises(Misconfigured, match=rf"ended before it did, twice, by {told} \([^$]*no space left"):
                    server.wait()
            else:
                server.wait()
                assert urlopen(f"{server.url}/health").status == 200
        finally:
            server.stop()
    assert len(started) == 2


def test_a_server_of_the_users_is_honoured(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "INFO")
    monkeypatch.setattr(prefect_server, "ANSWER_S", 0.05)
    server = PrefectServer()
    assert server.url == "http://127.0.0.1:9/api"
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "INFO"
    with pytest.raises(Misconfigured, match="no Prefect server answers") as caught:
        server.wait()
    assert caught.value.where == server.url
    server.stop()
    assert os.environ["PREFECT_API_URL"] == server.url


def test_a_url_of_no_prefect_server_is_named(monkeypatch):
    monkeypatch.setattr(prefect_server, "ANSWER_S", 0.05)
    with other_program() as port:
        for url in (f"http://127.0.0.1:{port}/api", "no URL"):
            monkeypatch.setenv("PREFECT_API_URL", url)
            with pytest.raises(Misconfigured, match="no Prefect server answers"):
                PrefectServer().wait()


def test_no_proxy_is_asked_for_a_server_on_this_machine(monkeypatch):
    """Sites set one for all of HTTP: neither we nor Prefect's client ask it for what only this machine can reach."""
    monkeypatch.setattr(prefect_server, "ANSWER_S", 1.0)
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with other_program(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue") as port, patch.dict(os.environ, proxies):
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        for name in ("no_proxy", "NO_PROXY"):
            os.environ.pop(name, None)
        PrefectServer().wait()
        assert httpx.get(f"http://127.0.0.1:{port}/api/health").status_code == 200


@pytest.mark.parametrize(
    ("url", "said", "names"),
    [
        ("http://127.0.0.1:4200/api", {}, "127.0.0.1"),
        ("http://localhost:4200/api", {"NO_PROXY": ".survey.org"}, ".survey.org,localhost"),
        ("http://127.0.0.1:4200/api", {"no_proxy": "a", "NO_PROXY": "b"}, "a,127.0.0.1"),  # as Python reads them
        ("http://127.0.0.1:4200/api", {"no_proxy": "*"}, None),
        ("http://127.0.0.1:4200/api", {"no_proxy": "a, 127.0.0.1"}, None),
        ("https://prefect.survey.org/api", {}, None),
        ("http://[::1", {}, None),
    ],
)
def test_what_else_is_reached_without_a_proxy_stays(url, said, names):
    found = past_proxies({"PREFECT_API_URL": url, **said})
    assert found == ({} if names is None else {"no_proxy": names, "NO_PROXY": names})


def test_home_is_a_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_home() == tmp_path / "nightstride" / "prefect"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".cache" / "nightstride" / "prefect"
