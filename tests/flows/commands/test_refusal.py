import json

import pytest
import typer

from flows.commands.refusal import refusals
from schemas.errors import BadInput, Misconfigured, NoWork, Retryable
from tests.flows.observe.log_support import lines_of


def ended_with(error, as_json, capsys):
    with pytest.raises(typer.Exit) as ended, refusals(as_json):
        raise error
    shown = capsys.readouterr()
    return ended.value.exit_code, shown.out, shown.err


@pytest.mark.parametrize(("kind", "exit_code"), [(Misconfigured, 2), (BadInput, 2), (NoWork, 2), (Retryable, 1)])
def test_what_may_succeed_later_is_1_anything_else_2(kind, exit_code, capsys):
    code, out, err = ended_with(kind("store", "s3://b", "is down.", "wait."), False, capsys)
    assert (code, out, err) == (exit_code, "", "nightstride: s3://b: is down. To fix, wait.\n")


def test_machines_get_an_object_with_every_part(capsys):
    _, out, err = ended_with(Misconfigured("held", "OUT", "is held.", "wait."), True, capsys)
    assert json.loads(out) == {"error": {"code": "held", "where": "OUT", "problem": "is held.", "remedy": "wait."}}
    assert err.startswith("nightstride: OUT: is held.")


def test_what_is_no_error_of_ours_passes():
    with pytest.raises(ZeroDivisionError), refusals():
        1 / 0  # noqa: B018


def test_no_password_is_said(capsys):
    _, _, err = ended_with(
        Misconfigured("store", "store.endpoint", "http://me:hunter22@h is wrong.", "."), False, capsys
    )
    assert "hunter22" not in err


def test_where_logs_are_json_it_is_one_more_line():
    (line,) = lines_of(
        "from flows.observe.log import log_as_json\n"
        "from schemas.errors import Misconfigured\n"
        "from flows.commands.refusal import complain\n"
        "log_as_json()\n"
        "complain(Misconfigured('held', 'OUT', 'is held.', 'wait.'))\n"
    )
    assert (line["level"], line["code"], line["event"]) == ("error", "held", "OUT: is held. To fix, wait.")
