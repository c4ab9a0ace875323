"""Attempts to get in."""

import asyncio
import inspect
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from flows.vetting import guard
from flows.vetting.guard import HEADERS, MOST_BODY, doors, same
from schemas.errors import Misconfigured
from tests.support.vetting import DOORS, TOKEN, source_id

PAGES = ("/", "/tracklets", "/agreement", f"/candidate/{source_id(101, 0)}", "/exposure/20261103/101-3",
         "/tile/20261103/101-3/difference/0/0-0.png", "/static/vet.js", "/next", f"/explain/{source_id(101, 0)}",
         "/docs", "/openapi.json")  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_without_the_token(stranger, path):
    for query in ({}, {"token": ""}, {"token": "x"}, {"token": TOKEN[:-1]}, {"token": TOKEN + "x"}, {"token": "ü"}):
        answer = stranger.get(path, params=query)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "211824640" not in answer.text


@pytest.mark.parametrize("cookie", ["", "x", TOKEN, DOORS.secret("csrf"), "é", '"'])
def test_no_other_cookie_opens_it(stranger, served, cookie):
    value = f"{served.doors.cookie}={cookie}".encode()
    assert stranger.get("/", headers={b"cookie": value}).status_code == 401


@pytest.mark.parametrize("other", ['prefs={"dark": true}', "a b", "x=[1,2]", "="])
def test_cookies_of_other_servers_of_this_machine_do_no_harm(stranger, served, other):
    own = f"{served.doors.cookie}={DOORS.secret('session')}"
    for cookies in (f"{other}; {own}", f"{own}; {other}"):
        assert stranger.get("/agreement", headers={"cookie": cookies}).status_code == 200


def test_a_token_of_ones_own_is_whole_in_the_address():
    token = "a&b#c+d%20;" + 20 * "e"
    address = urlsplit(doors("127.0.0.1", 8462, [], {guard.TOKEN_VARIABLE: token}).address)
    assert parse_qs(address.query) == {"token": [token]}
    assert not address.fragment


def test_the_token_gives_a_cookie_and_goes_from_the_address(stranger):
    answer = stranger.get("/", params={"token": TOKEN, "sort": "snr"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?sort=snr")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200


def test_the_token_opens_nothing_by_a_post(stranger):
    assert stranger.post("/user", params={"token": TOKEN}, json={"user": "eve"}).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/%0d%0aSet-Cookie:%20a=b", "///evil.example"])
def test_the_way_in_leads_nowhere_else(stranger, served, path):
    answer = stranger.get(served.address + path, params={"token": TOKEN})
    assert answer.headers["location"].startswith("/")
    assert not answer.headers["location"].startswith(("//", "/\\"))
    assert "\n" not in answer.headers["location"]
    cookie = f"{served.doors.cookie}={DOORS.secret('session')}; Path=/; HttpOnly; SameSite=Strict"
    assert answer.headers.get_list("set-cookie") == [cookie]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8462", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a b"]
)
def test_a_name_of_somebody_else_is_refused(client, host):
    """DNS rebinding: a name that was made to point here is still not ours."""
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:8462", "127.0.0.1", "[::1]:8462", "LOCALHOST:9000"])
def test_names_of_this_machine_are_ours(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


CHANGES = (("/user", {"user": "eve"}), ("/verdict", {"id": str(source_id(101, 0)), "verdict": "real", "ticket": "x"}),
           ("/undo", {"record": 32 * "0"}))  # fmt: skip


@pytest.mark.parametrize(("path", "body"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"x-csrf-token": ""},
        {"x-csrf-token": "0" * 64},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_can_ask_for_no_change(client, place, path, body, headers):
    before = place.verdicts.version
    assert client.post(path, json=body, headers=headers).status_code == 403
    assert place.verdicts.version == before


def test_a_form_of_another_page_is_refused(client):
    answer = client.post("/user", data={"user": "eve"}, headers={"x-csrf-token": "", "origin": "https://evil.example"})
    assert answer.status_code == 403
    for kind, body in (("text/plain", b"user=eve"), ("application/json", b"{"), ("application/json", b"\xff{")):
        answer = client.post("/user", content=body, headers={"content-type": kind})
        assert (answer.status_code, "form that is expected" in answer.json()["error"]) == (422, True)


def test_large_bodies_and_bodies_without_a_length_are_refused(client):
    assert client.post("/user", content=b"x" * (MOST_BODY + 1)).status_code == 413
    assert client.post("/user", content=iter([b"x"])).status_code == 413


def test_every_answer_has_the_headers(client, stranger):
    for path in (*PAGES, "/nothing", "/?klass=x"):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert stranger.get("/", headers={"host": "evil.example"}).headers["X-Frame-Options"] == "DENY"


def test_no_script_or_style_stands_in_a_page(client):
    for path in PAGES[:5]:
        text = client.get(path).text
        assert not re.search(r"<script(?! src=\"/static/\w+\.js\" defer></script>)", text)
        assert not re.search(r"<[^>]+\s(style|on\w+)=", text)
        assert not re.search(r"(src|href)=\"(?!/|data:|#)", text)


def test_who_is_elsewhere_needs_a_token_of_the_environment():
    with pytest.raises(Misconfigured, match="lets others reach"):
        doors("0.0.0.0", 80, (), {})
    with pytest.raises(Misconfigured, match="20 printable"):
        doors("127.0.0.1", 80, (), {"NIGHTSTRIDE_VET_TOKEN": "short"})
    for token in (30 * "é", "a token with spaces in it, long"):
        with pytest.raises(Misconfigured, match="20 printable"):
            doors("192.0.2.1", 80, (), {"NIGHTSTRIDE_VET_TOKEN": token})
    found = doors("0.0.0.0", 80, ("scan.example",), {"NIGHTSTRIDE_VET_TOKEN": TOKEN})
    assert found.names[0] == "scan.example"
    assert "0.0.0.0" not in found.names
    assert found.address == f"http://scan.example:80/?token={TOKEN}"
    assert TOKEN not in repr(found)


def test_tokens_are_long_and_new_each_time():
    first, second = (doors("::1", 1, (), {}) for _ in range(2))
    assert len(first.token) >= 40
    assert first.token != second.token
    assert first.address.startswith("http://[::1]:1/?token=")
    assert len({first.secret("session"), first.secret("csrf"), first.secret("ticket"), first.token}) == 4


def test_secrets_are_compared_in_constant_time():
    assert same("abc", "abc")
    assert not same("abd", "abc")
    assert "compare_digest" in inspect.getsource(guard.same)
    assert not re.search(r"(token|_csrf|_session)\s*[!=]=", inspect.getsource(guard.Guard))


def test_a_name_is_this_machine_s_only_if_it_says_so():
    assert "localhost" in doors("localhost", 1, (), {}).names
    for host in ("here", "localhost.example", "192.0.2.1", "0.0.0.0"):
        with pytest.raises(Misconfigured) as caught:
            doors(host, 1, (), {})
        assert caught.value.code == "no_token"
    token = {guard.TOKEN_VARIABLE: "x" * guard.LEAST_TOKEN}
    assert doors("here", 1, (), token).names[0] == "here"
    assert "0.0.0.0" not in doors("0.0.0.0", 1, (), token).names
    with pytest.raises(Misconfigured, match="printable ASCII"):
        doors("here", 1, (), {guard.TOKEN_VARIABLE: "x" * (guard.LEAST_TOKEN - 1)})


@pytest.mark.parametrize(("kind", "handed_on"), [("lifespan", True), ("websocket", False)])
def test_no_other_protocol_is_spoken(kind, handed_on):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(guard.Guard(application, DOORS)({"type": kind}, None, None))
    assert seen == [kind] * handed_on
