"""How mutated files are read and judged, with readers that fail in each way."""

import gc
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.guard import mutated_files
from benchmarks.guard.file_mutations import mutated
from benchmarks.guard.mutated_files import Form, Found, apart, judged, searched

FORM = Form("x", (), Path("x"))
MIB = 2**20


def fails(form, seed):
    raise KeyError("a defect")


def hangs(form, seed):
    time.sleep(60)


def works(form, seed):
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    return "used"


def dies(form, seed):
    os.kill(os.getpid(), signal.SIGKILL)


def hoards(form, seed):
    return str(len(b"x" * (1 if seed is None else 64 * MIB)))


@pytest.mark.parametrize(
    ("read", "verdict"),
    [(fails, "KeyError: 'a defect'"), (hangs, "gives no answer"), (dies, f"ends with {-signal.SIGKILL}")],
)
def test_what_neither_uses_nor_refuses_is_an_escape(monkeypatch, read, verdict):
    monkeypatch.setattr(mutated_files, "read", read)
    monkeypatch.setattr(mutated_files, "PATIENCE_S", 0.2 if read is hangs else 60.0)
    found = apart(FORM, 1)
    assert (found.verdict, found.escaped) == (verdict, True)
    assert "escape" in judged(found, Found("used", 1.0, MIB))


def test_a_reader_that_works_on_a_busy_machine_is_waited_for(monkeypatch):
    monkeypatch.setattr(mutated_files, "read", works)
    monkeypatch.setattr(mutated_files, "PATIENCE_S", 0.1)
    monkeypatch.setattr(mutated_files, "ROUNDS", 600)
    assert (apart(FORM, 1).verdict, apart(FORM, 1).escaped) == ("used", False)
    monkeypatch.setattr(mutated_files, "ROUNDS", 2)
    assert apart(FORM, 1).escaped


@pytest.mark.flaky(reruns=3)  # a machine that takes idle pages back meanwhile hides what was taken
def test_memory_is_that_of_the_file_alone(monkeypatch):
    held = b"x" * 256 * MIB  # of the process that it is forked from
    gc.collect()  # what earlier tests have left there would be freed meanwhile
    monkeypatch.setattr(mutated_files, "read", hoards)
    assert apart(FORM, None).memory < 32 * MIB < 63 * MIB < apart(FORM, 1).memory < 128 * MIB
    assert len(held) == 256 * MIB


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        (Found("used", 5.0, 400), []), (Found("damaged", 5.1, 400), ["slow"]), (Found("used", 1.0, 401), ["memory"]),
        (Found("KeyError", 6.0, 401, True), ["escape", "slow", "memory"]),
    ],
)  # fmt: skip
def test_time_and_memory_are_limited(found, problems):
    assert judged(found, Found("used", 1.0, 100)) == problems


def test_forms_take_turns_and_seeds_differ(monkeypatch):
    monkeypatch.setattr(mutated_files, "read", lambda form, seed: "used")
    forms = [Form(name, (), Path(name)) for name in "ab"]
    found = [(form.name, seed) for form, seed, *_ in searched(forms, 5, 7)]
    assert found == [("a", 7000000), ("b", 7000001), ("a", 7000002), ("b", 7000003), ("a", 7000004)]
    monkeypatch.setattr(mutated_files, "read", lambda form, seed: "truncated")
    with pytest.raises(SystemExit, match="the good a is not used"):
        list(searched(forms, 5, 7))


def test_a_seed_gives_one_file():
    card = b"SIMPLE  =                    T".ljust(80) + b"END".ljust(80)
    whole = card.ljust(2880) + bytes(2880)
    files = {mutated(whole, "x.fits", seed) for seed in range(50)}
    assert files == {mutated(whole, "x.fits", seed) for seed in range(50)}
    assert len(files) > 25
    assert sum(one != whole for one in files) > 25
