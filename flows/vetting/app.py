"""Routes of the vetting page."""

import json
from importlib.resources import files
from typing import Annotated, Literal
from unicodedata import category
from urllib.parse import quote, unquote

from fastapi import Body, Cookie, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.responses import Response as Plain
from pydantic import BaseModel, ConfigDict, Field

from flows.results.explain import explain_detection
from flows.vetting.guard import Doors
from flows.vetting.labels import agreements
from flows.vetting.pages import Pages
from flows.vetting.selection import parse_selection
from flows.vetting.server import Workplace
from flows.vetting.turn import is_blind, ticket
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureKey
from schemas.vetting import Verdict

USER = "nightstride-vetter"
"""Name of the cookie with the vetter's name."""

_FILES = {
    "vet.css": ("flows.vetting", "static/vet.css", "text/css"),
    "vet.js": ("flows.vetting", "static/vet.js", "text/javascript"),
    "viewer.js": ("flows.vetting", "static/viewer.js", "text/javascript"),
    "night.css": ("flows.results.page", "templates/night.css", "text/css"),
}
"""All files that are served: no name in a request becomes a path."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Name(_Strict):
    """Name of the vetter from now on."""

    user: str


class Said(_Strict):
    """Verdict on a candidate; browsers send 64-bit integers as strings."""

    id: Annotated[str, Field(pattern=r"^\d{1,19}$")]
    verdict: Literal["real", "bogus", "satellite", "artefact", "unsure"]
    ticket: Annotated[str, Field(max_length=64)]


class Undone(_Strict):
    """Verdict to take back; by default the vetter's last one."""

    record: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


Known = Annotated[str, Cookie(alias=USER)]


def make_app(place: Workplace, let_in: Doors) -> FastAPI:
    """Return the application, which must be wrapped in a `flows.vetting.guard.Guard`.

    Parameters
    ----------
    place
        Content to show.
    let_in
        Access rules, whose secrets are used.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages, key = Pages(let_in.secret("csrf")), let_in.secret("ticket").encode()
    _errors(app, pages)
    _lists(app, place, pages)
    _candidates(app, place, pages, key)
    _exposures(app, place, pages)
    _verdicts(app, place, key)
    return app


def _errors(app: FastAPI, pages: Pages) -> None:
    @app.exception_handler(NightstrideError)
    def refused(request: Request, error: NightstrideError) -> Response:
        missing = error.code in ("no_candidate", "no_tile", "no_exposure")
        status = 404 if missing else 400 if isinstance(error, BadInput) else 503
        if request.method == "POST":
            return JSONResponse({"error": str(error)}, status)
        return HTMLResponse(pages.error(str(error), status), status)

    @app.exception_handler(404)
    @app.exception_handler(405)
    def nothing(request: Request, error: HTTPException) -> Response:
        return HTMLResponse(pages.error("There is no such page.", error.status_code), error.status_code)

    @app.exception_handler(400)  # a body that is not text
    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: HTTPException | RequestValidationError) -> Response:
        if request.method == "POST":
            return JSONResponse({"error": "The request is not of the form that is expected."}, 422)
        return HTMLResponse(pages.error("There is no such page.", 404), 404)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404)
        package, path, kind = _FILES[name]
        headers = {"Cache-Control": "private, max-age=3600"} if name.endswith("css") else {}
        return Plain((files(package) / path).read_bytes(), media_type=kind, headers=headers)


def _lists(app: FastAPI, place: Workplace, pages: Pages) -> None:
    @app.get("/")
    def candidates(request: Request, vetter: Known = "") -> HTMLResponse:
        user, index, wanted = _user(vetter), place.index(), parse_selection(request.query_params)
        rows = place.rows(index, wanted, user)
        return HTMLResponse(pages.candidates(index, wanted, rows, place.judged(index, user), user))

    @app.get("/tracklets")
    def tracklets(vetter: Known = "", page: int = 1) -> HTMLResponse:
        return HTMLResponse(pages.tracklets(place.index(), max(page, 1), _user(vetter)))

    @app.get("/agreement")
    def agreement(vetter: Known = "") -> HTMLResponse:
        between, within = agreements(place.verdicts.standing())
        return HTMLResponse(pages.agreement(between, within, place.verdicts.unreadable, _user(vetter)))


def _candidates(app: FastAPI, place: Workplace, pages: Pages, key: bytes) -> None:
    @app.get("/candidate/{source_id}")
    def candidate(
        request: Request, source_id: int, vetter: Known = "", t: str = "", part: bool = False
    ) -> HTMLResponse:
        user, index, wanted = _user(vetter), place.index(), parse_selection(request.query_params)
        row = place.row(index, source_id)
        blind = bool(is_blind(key, user, source_id, t))
        standing = place.verdicts.standing()
        said = [one for one, at in zip(standing, index.rows_of(standing).tolist(), strict=True) if at == row]
        mine = [one for one in said if one.user == user and not one.blind]
        shown = said if mine and not blind else []
        found = place.candidate(index, row)
        content = pages.candidate(found, wanted, user, ticket(key, user, source_id, blind), shown, part=part)
        return HTMLResponse(content)

    @app.get("/next")
    def following(request: Request, vetter: Known = "", after: str = "") -> JSONResponse:
        user, index, wanted = _user(vetter), place.index(), parse_selection(request.query_params)
        known = after.isascii() and after.isdigit() and len(after) < 20
        row = place.row(index, int(after) if known else -1) if after else None
        found = place.next(index, wanted, user, row)
        if found is None:
            return JSONResponse({"next": None})
        return JSONResponse({"next": {"id": str(found[0]), "t": ticket(key, user, *found)}})

    @app.get("/explain/{source_id}")
    def explain(source_id: int, vetter: Known = "") -> HTMLResponse:
        place.row(place.index(), source_id)
        values = explain_detection(place.out, source_id, place.association).values()
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        return HTMLResponse(pages.explanation(source_id, text, _user(vetter)))


def _exposures(app: FastAPI, place: Workplace, pages: Pages) -> None:
    @app.get("/exposure/{night}/{visit}-{detector}")
    def exposure(
        night: str, visit: int, detector: int, vetter: Known = "", x: float = -1, y: float = -1
    ) -> HTMLResponse:
        key = _published(place, night, visit, detector)
        return HTMLResponse(pages.exposure(place.out, place.index(), key, (x, y), _user(vetter)))

    @app.get("/tile/{night}/{visit}-{detector}/{plane}/{level}/{row}-{column}.png")
    def tile(
        night: str,
        visit: int,
        detector: int,
        plane: Literal["difference", "science", "template"],
        level: int,
        row: int,
        column: int,
    ) -> Response:
        key = _published(place, night, visit, detector)
        content = place.pyramid.tile(key, plane, level, row, column)
        return Plain(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def _published(place: Workplace, night: str, visit: int, detector: int) -> ExposureKey:
    """Return the key of an exposure in the index: paths are made only from such keys.

    Raises
    ------
    BadInput
        There is no such exposure (``no_exposure``).
    """
    for record in place.index().exposures.get(night, ()):
        if (record.visit, record.detector) == (visit, detector):
            return record.key
    raise BadInput(
        "no_exposure", f"{night}/{visit}-{detector}", "is not an exposure of these nights.", "go back to the list."
    )


def _verdicts(app: FastAPI, place: Workplace, key: bytes) -> None:
    @app.post("/user")
    def name(given: Annotated[Name, Body()]) -> Response:
        user = _tidy(given.user)
        if not user:
            return JSONResponse({"error": "A name has 1 to 40 printable characters."}, 400)
        answer = JSONResponse({"user": user})
        answer.set_cookie(USER, quote(user), httponly=True, samesite="strict", path="/", max_age=365 * 86400)
        return answer

    @app.post("/verdict")
    def verdict(given: Annotated[Said, Body()], vetter: Known = "") -> Response:
        user, index = _user(vetter), place.index()
        if not user:
            return JSONResponse({"error": "Give your name first."}, 400)
        source_id = int(given.id)
        row = place.row(index, source_id)
        blind = is_blind(key, user, source_id, given.ticket)
        if blind is None:
            return JSONResponse({"error": "This page is of another vetter or an earlier server: load it again."}, 409)
        at = float(index.columns["x"][row]), float(index.columns["y"][row])
        made = place.verdicts.add(user, index.key(row).night, source_id, at, Verdict(given.verdict), blind=blind)
        return JSONResponse({"record": made.id})

    @app.post("/undo")
    def undo(given: Annotated[Undone, Body()], vetter: Known = "") -> Response:
        user = _user(vetter)
        record = given.record or place.last_verdict(place.index(), user)
        found = place.verdicts.undo(user, record)
        if found is None:
            nothing = "There is nothing to undo." if given.record is None else "There is no such verdict of yours."
            return JSONResponse({"error": nothing}, 404)
        made = ticket(key, found.user, found.diaSourceId, found.blind)
        return JSONResponse({"back": {"id": str(found.diaSourceId), "t": made}})


def _tidy(name: str) -> str:
    """Return a name with single spaces; "" if it is empty, too long, or has control characters."""
    found = " ".join(name.split())
    seen = found.isprintable() and not any(category(one) == "Cc" for one in name)
    return found if seen and 0 < len(found) <= 40 else ""


def _user(cookie: str) -> str:
    """Return the vetter's name from the cookie; "" if none was given."""
    return _tidy(unquote(cookie, errors="replace"))
