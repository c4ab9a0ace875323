from flows.runtime.words import counted


def test_one_is_in_the_singular():
    assert [counted(n, "upper limit") for n in (0, 1, 2, 1234)] == [
        "0 upper limits", "1 upper limit", "2 upper limits", "1,234 upper limits",
    ]  # fmt: skip
