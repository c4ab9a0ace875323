"""Pages and changes, as somebody with the token asks for them."""

import base64
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from flows.vetting import turn
from schemas.vetting import Verdict
from tests.support.vetting import BAND, DOORS, KNOWN, NIGHT, TOKEN, VISITS, source_id

MOVER, STAR, HOSTED = (source_id(101, rank) for rank in range(3))


def ticket(page):
    return re.search(r'data-ticket="(\w+)"', page.text)[1]


def judge(client, identity, verdict, given=None):
    made = given or ticket(client.get(f"/candidate/{identity}"))
    return client.post("/verdict", json={"id": str(identity), "verdict": verdict, "ticket": made})


def ids(page):
    return [int(one) for one in re.findall(r'<th scope="row"><a href="/candidate/(\d+)', page.text)]


def test_the_list_is_filtered_and_sorted(client):
    assert len(ids(client.get("/"))) == 36
    assert ids(client.get("/"))[:3] == [source_id(visit, 0) for visit in VISITS]
    assert len(ids(client.get("/", params={"band": BAND}))) == 12
    assert ids(client.get("/", params={"known": "yes"})) == [source_id(102, 3)]
    assert ids(client.get("/", params={"linked": "yes", "sort": "time"})) == [source_id(v, 0) for v in VISITS[::-1]]
    found = client.get("/", params={"sort": "snr", "snr_min": "20", "ascending": "1"})
    assert {one & 4095 for one in ids(found)} >= {0, 1}
    elsewhere = client.get("/", params={"night": "20250101"}).text
    assert "No candidate fits." in elsewhere
    assert re.findall(r'<option value="(\w+)" selected', elsewhere) == ["20250101", "interest"]
    assert client.get("/", params={"page": "999"}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "klass=x",
        "sort=x",
        "snr_min=x",
        "snr_min=nan",
        "page=-1",
        "page=x",
        "tracklet=1e5",
        "night=nonsense",
        "night=2026110",
        "night=%C2%B2",
        "night=" + "9" * 40,
        "state=<script>",
        "linked=2",
    ],
)
def test_a_wrong_filter_is_named(client, query):
    answer = client.get(f"/?{query}")
    assert answer.status_code == 400
    assert html.escape(query.split("=")[0]) in answer.text
    assert Tags(answer.text).dangerous == []
    assert "<i>" not in answer.text


def test_the_page_of_a_mover(client):
    text = html.unescape(client.get(f"/candidate/{MOVER}").text)
    for words in ("9.0", "3 on 3 visits", "3.300 ± 0.010 °/day", KNOWN, "0.600", "PA 90 deg", "whole detector", "nJy"):
        assert words in text, words
    for visit in VISITS[1:]:
        assert f'href="/candidate/{source_id(visit, 0)}"' in text
    names = re.findall(r'<span class="name">([^<]+)', text)
    assert names == ["difference", "science", "template", "r +1 min", "r +3 min"]


def test_what_is_at_rest_has_a_light_curve_and_objects(client):
    text = client.get(f"/candidate/{STAR}").text
    assert "again at its place: at rest" in text
    assert "Light curve of 3 detections" in text
    assert "host candidate: object 77" in text
    assert "sits on: object 77" in client.get(f"/candidate/{HOSTED}").text
    assert "this one" in client.get(f"/candidate/{source_id(102, 3)}").text


def test_explain_is_shown_whole(client):
    text = html.unescape(client.get(f"/explain/{MOVER}").text)
    assert '"source_sha256": "0000' in text
    assert f'"diaSourceId": {MOVER}' in text


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", '" onfocus="alert(1)', "</script>", "Ömer & Zoë 天"])
def test_names_stay_text(client, name):
    assert client.post("/user", json={"user": name}).status_code == 200
    assert judge(client, MOVER, "real").status_code == 200
    for path in ("/", f"/candidate/{MOVER}", "/agreement"):
        tags = Tags(client.get(path).text)
        assert tags.scripts == 1
        assert tags.dangerous == []
    assert name in html.unescape(client.get(f"/candidate/{MOVER}").text)


class Tags(HTMLParser):
    """Elements of a page: its scripts, and what could run one or load from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.dangerous = 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.scripts += tag == "script"
        if tag == "script" and not re.fullmatch(r"/static/\w+\.js", given.get("src", "")):
            self.dangerous.append((tag, given))
        if any(name.startswith("on") or name == "style" for name in given) or tag in {
            "style",
            "iframe",
            "object",
            "base",
        }:
            self.dangerous.append((tag, given))
        if tag == "img" and not given["src"].startswith("data:image/png;base64,"):
            self.dangerous.append((tag, given))


def test_text_of_files_stays_text(client):
    for path in ("/", f"/candidate/{MOVER}", "/exposure/20261103/101-3", f"/explain/{MOVER}"):
        text = client.get(path).text
        assert BAND not in text
        assert Tags(text).dangerous == []
        assert "r&lt;b&gt;" in text


@pytest.mark.parametrize("name", ["", " ", "x" * 41, "a\x00b", "a\nb", "a\tb", "a\n", "‮evil", 3, None])
def test_names_that_are_none_are_refused(client, name):
    answer = client.post("/user", json={"user": name})
    assert answer.status_code == (400 if isinstance(name, str) else 422)
    assert not isinstance(name, str) or answer.json()["error"] == "A name has 1 to 40 printable characters."


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/app.py",
        "/static/vet.js%00", "/exposure/../../etc/101-3", "/exposure/20261103%2f..%2f20261103/101-3",
        "/exposure/20991231/101-3", "/exposure/20261103/101-4", "/exposure/20261103/-101-3",
        "/tile/20261103/101-3/mask/0/0-0.png", "/tile/20261103/101-3/..%2fscience/0/0-0.png",
        "/tile/20261103/101-3/difference/0/0-99.png", "/tile/20261103/101-3/difference/99/0-0.png",
        "/tile/20261103/101-3/difference/-1/0-0.png", f"/tile/20261103/101-3/difference/0/0-{10**30}.png",
        "/candidate/1", f"/candidate/{10**40}", "/candidate/-1", "/candidate/../../etc/passwd", "/explain/1",
        "/nothing",
    ],
)  # fmt: skip
def test_no_path_leads_out(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text


def test_a_verdict_is_kept_and_undone(client, place):
    made = judge(client, MOVER, "bogus").json()["record"]
    (one,) = place.verdicts.standing()
    assert (one.id, one.user, one.verdict, one.blind) == (made, "Henrietta", Verdict.BOGUS, False)
    assert (one.night, one.diaSourceId, one.x, one.y) == (NIGHT, MOVER, 80.0, 200.0)
    page = client.get(f"/candidate/{MOVER}").text
    assert f'data-record="{made}"' in page
    assert re.search(r'data-verdict="bogus"[^>]+aria-pressed="true"', page)
    assert client.post("/undo", json={"record": made}).json()["back"]["id"] == str(MOVER)
    assert place.verdicts.standing() == []
    assert client.post("/undo", json={"record": made}).status_code == 404
    judge(client, MOVER, "bogus")
    place.verdicts.add("Henrietta", "20200101", 5, (1.0, 1.0), Verdict.REAL, blind=False)  # of a night that is not here
    assert client.post("/undo", json={}).json()["back"]["id"] == str(MOVER)
    assert client.post("/undo", json={}).json() == {"error": "There is nothing to undo."}


def test_nobody_undoes_what_another_said(client, place):
    made = judge(client, MOVER, "real").json()["record"]
    client.post("/user", json={"user": "Eve"})
    assert client.post("/undo", json={"record": made}).status_code == 404
    assert len(place.verdicts.standing()) == 1


def test_what_others_said_is_hidden_until_one_has_judged(client):
    judge(client, MOVER, "real")
    client.post("/user", json={"user": "Jocelyn"})
    assert "Henrietta" not in client.get(f"/candidate/{MOVER}").text
    judge(client, MOVER, "bogus")
    assert re.search(r"Henrietta: <b>real</b>", client.get(f"/candidate/{MOVER}").text)
    assert ids(client.get("/", params={"state": "disputed"})) == [MOVER]


def test_states_of_verdicts(client):
    judge(client, MOVER, "real")
    judge(client, STAR, "bogus")
    assert ids(client.get("/", params={"state": "mine"})) == [MOVER, STAR]
    assert ids(client.get("/", params={"state": "bogus"})) == [STAR]
    assert len(ids(client.get("/", params={"state": "open"}))) == 34
    client.post("/user", json={"user": "Jocelyn"})
    assert len(ids(client.get("/", params={"state": "open"}))) == 36
    assert len(ids(client.get("/", params={"state": "unjudged"}))) == 34


def test_a_ticket_is_of_one_vetter_and_one_candidate(client, place):
    made = ticket(client.get(f"/candidate/{MOVER}"))
    assert judge(client, STAR, "real", made).status_code == 409
    assert judge(client, MOVER, "real", "é").status_code == 409
    client.post("/user", json={"user": "Eve"})
    assert judge(client, MOVER, "real", made).status_code == 409
    assert place.verdicts.standing() == []


@pytest.mark.parametrize(
    "body",
    [{"id": "1", "verdict": "maybe", "ticket": "x"}, {"id": 1, "verdict": "real", "ticket": "x"}, {}, [],
     {"id": "1", "verdict": "real", "ticket": "x", "more": 1}, {"id": "-1", "verdict": "real", "ticket": "x"}],
)  # fmt: skip
def test_a_malformed_verdict_is_refused(client, body):
    assert client.post("/verdict", json=body).status_code == 422


def test_a_verdict_on_what_is_no_candidate_is_refused_in_the_form_that_the_page_reads(client):
    answer = client.post("/verdict", json={"id": "5", "verdict": "real", "ticket": "x"})
    assert (answer.status_code, "To fix" in answer.json()["error"]) == (404, True)
    page = client.get("/candidate/5")
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (404, "text/html")


def test_who_has_no_name_gives_no_verdict(stranger, place):
    stranger.get("/", params={"token": TOKEN})
    stranger.headers["X-CSRF-Token"] = DOORS.secret("csrf")
    answer = judge(stranger, MOVER, "real")
    assert (answer.status_code, answer.json()["error"]) == (400, "Give your name first.")


def test_next_goes_through_the_list_once(client):
    seen, after = [], ""
    for _ in range(40):
        found = client.get("/next", params={"after": after, "sort": "snr", "state": "open"}).json()["next"]
        if found is None:
            break
        seen.append(int(found["id"]))
        after = found["id"]
        assert judge(client, after, "unsure", found["t"]).status_code == 200
    assert len(seen) == len(set(seen)) == 36
    for after in ("junk", "-1", "9" * 19, "9" * 5000, "٣"):  # too large, or a digit of another script
        assert client.get("/next", params={"after": after}).status_code == 404


def test_a_list_of_what_is_open_goes_on_from_the_place_of_what_was_judged_just_now(client):
    def following(after=""):
        return client.get("/next", params={"after": after, "sort": "snr", "state": "open"}).json()["next"]

    skipped = following()
    judged = following(skipped["id"])
    third = following(judged["id"])
    assert judge(client, judged["id"], "real", judged["t"]).status_code == 200
    assert following(judged["id"]) == third
    seen, after = [], judged["id"]
    for _ in range(35):
        after = following(after)["id"]
        seen.append(after)
    assert seen[-1] == skipped["id"]  # after the last the first that is left


def test_a_list_of_what_one_has_judged_is_gone_through_again(client):
    def following(after, state):
        found = client.get("/next", params={"after": after, "sort": "snr", "state": state}).json()["next"]
        return found and found["id"]

    first, second, third = ids(client.get("/", params={"sort": "snr"}))[:3]
    for one, verdict in ((first, "real"), (second, "bogus"), (third, "real")):
        judge(client, one, verdict)
    assert [following(one, "mine") for one in ("", first, second, third)] == [str(first), str(second), str(third), None]
    assert following(first, "real") == str(third)
    judge(client, first, "unsure")
    assert following(first, "real") == str(third)  # though it is in that list no more
    assert following("", "bogus") == str(second)


def test_a_recheck_looks_like_any_other(client, place, monkeypatch):
    place.recheck = 1.0
    monkeypatch.setattr(turn, "REST", 2)
    for rank in range(4, 10):
        judge(client, source_id(101, rank), "real")
    found = client.get("/next", params={"after": str(source_id(101, 9))}).json()["next"]
    assert int(found["id"]) in {source_id(101, rank) for rank in range(4, 8)}
    page = client.get(f"/candidate/{found['id']}", params={"t": found["t"]}).text
    assert 'class="said"' not in page
    assert "data-record" not in page
    assert 'aria-pressed="true"' not in re.search(r'class="verdicts-bar".*?</div>', page, re.DOTALL)[0]
    assert judge(client, found["id"], "bogus", found["t"]).status_code == 200
    assert place.verdicts.standing()[-1].blind
    text = client.get("/agreement").text
    assert "Henrietta, earlier and again" in text
    assert "the same on 0 of 1" in text


def test_tracklets_lead_to_their_detections(client):
    text = client.get("/tracklets").text
    assert f'href="/candidate/{MOVER}?tracklet={MOVER}' in text
    assert ids(client.get("/", params={"tracklet": MOVER})) == [source_id(visit, 0) for visit in VISITS]


def test_numbers_and_pictures_agree_with_the_tiles(client, place):
    """What the page stretches are the pixels of the tile store."""
    text = client.get(f"/candidate/{MOVER}").text
    coded = re.search(r'data-values="([^"]+)" data-ranges="([^"]+)"', text)
    values = np.frombuffer(base64.b64decode(coded[1]), "<f4")
    side = int(len(values) ** 0.5)
    store = TileStore.open(tile_path(place.out, place.index().key(0)))
    y0, x0 = 200 - side // 2, 80 - side // 2
    pixels = store.read("difference", y0, x0, y0 + side, x0 + side)[::-1]
    usable = np.isfinite(values.reshape(side, side))
    assert usable.mean() > 0.9
    np.testing.assert_array_equal(values.reshape(side, side)[usable], pixels[usable])
    ranges = json.loads(html.unescape(coded[2]))
    assert set(ranges) == {"asinh", "zscale", "linear"}
    assert ranges["linear"]["high"] == pytest.approx(float(np.nanmax(values)))
