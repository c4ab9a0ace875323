from flows.bench.timing import Timed, interleaved


def test_variants_take_turns():
    calls = []
    seconds = iter([0, 4, 10, 11, 20, 22, 30, 31, 40, 46, 50, 53])
    timed = interleaved(
        {"slow": lambda: calls.append("slow"), "fast": lambda: calls.append("fast") or 7},
        3,
        clock=lambda: float(next(seconds)),
    )
    assert calls == ["slow", "fast"] * 3
    assert timed.rounds == {"slow": (4.0, 2.0, 6.0), "fast": (1.0, 1.0, 3.0)}
    assert timed.medians == {"slow": 4.0, "fast": 1.0}
    assert timed.results == {"slow": None, "fast": 7}


def test_a_ratio_is_taken_within_each_round():
    # A machine that turns half as fast in the second round.
    timed = Timed({"slow": (10.0, 20.0, 11.0), "fast": (1.0, 2.0, 1.0)}, {})
    assert timed.ratio("slow", "fast") == 10.0
