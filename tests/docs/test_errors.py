"""Every code that the packages raise stands on the page of codes, as a plain search of the sources finds them."""

import re
from pathlib import Path

import pytest

from benchmarks.house.error_codes import Message, escaped, line, messages
from flows.inputs.sources import list_sources
from flows.pipeline.weights import read_card
from flows.results.row_filter import row_condition
from flows.simulation.presets import find_preset
from schemas.dia_source import DIA_SOURCE
from schemas.errors import NightstrideError
from schemas.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/errors.md").read_text()
RAISED = re.compile(r"\b(?:NoWork|BadInput|Retryable|Misconfigured|_bad)\(\s*\"(\w+)\"")
RAISES = re.compile(r"^ +Raises\n +------\n(.*?)(?:\n\n|\"\"\")", re.MULTILINE | re.DOTALL)


def found(pattern):
    for package in ("schemas", "kernels", "stages", "flows", "nightstride"):
        for path in (ROOT / package).rglob("*.py"):
            yield from pattern.findall(path.read_text())


def test_every_code_that_is_raised_has_a_heading():
    codes = set(found(RAISED))
    assert len(codes) > 300
    assert codes - set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == set()


def test_codes_that_docstrings_promise_are_raised():
    promised = {code for text in found(RAISES) for code in re.findall(r"\((?:code )?``([a-z]\w+)``\)", text)}
    assert len(promised) > 50
    assert promised - {one.code for one in messages()} == set()


def test_codes_named_on_other_pages_are_there():
    text = (ROOT / "docs/use/input.md").read_text().split("## Reasons of refusal")[1]
    named = {code for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)}
    assert len(named) > 30
    assert named - set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == set()


def test_every_message_says_what_is_wrong_and_most_what_to_do():
    told = messages()
    assert [one for one in told if not one.problem] == []
    silent = [one for one in told if one.problem == "…" or (one.remedy == "…" and one.kind != "Trouble")]
    assert len(silent) < 0.05 * len(told)


@pytest.mark.parametrize("code", ["no_task", "bad_subtraction", "locked", "deadline", "leftover"])
def test_codes_given_by_a_helper_a_loop_a_constant_or_a_record_are_found(code):
    assert f"\n## {code}\n" in PAGE


def test_markup_in_messages_is_text():
    assert escaped("a_b *c* <d> [fits.e] `f_g <h>`") == r"a_b \*c\* \<d\> \[fits.e\] `f_g <h>`"
    one = Message("code", "BadInput", "…", "is <b>.", "leave it out.")
    assert line(one) == r"- *Bad input.* is \<b\>. To fix, leave it out."


@pytest.mark.parametrize(
    "call",
    [
        lambda: list_sources(["/nowhere/a.fits"], Settings()),
        lambda: find_preset("ztg"),
        lambda: read_card("detect", "no_net"),
        lambda: row_condition("snr >", DIA_SOURCE.schema),
    ],
)
def test_what_is_said_is_what_stands_there(call):
    """The text of an error that happens is that of its code on the page, with what differs in place of the dots."""
    with pytest.raises(NightstrideError) as caught:
        call()
    code, problem = caught.value.code, caught.value.problem
    told = [one for one in messages() if one.code == code and type(caught.value).__name__ == one.kind]
    patterns = [re.escape(one.problem).replace("…", ".*") for one in told if one.problem.strip("….")]
    assert any(re.fullmatch(pattern, problem, re.DOTALL) for pattern in patterns), (code, problem)
