import threading

import pytest
import torch

from kernels.fused_torch_rounding import full_precision

MATMUL, PROCESSOR = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul


def choices():
    return MATMUL.fp32_precision, PROCESSOR.fp32_precision, MATMUL.allow_bf16_reduced_precision_reduction


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = PROCESSOR.fp32_precision = "none"
    MATMUL.allow_bf16_reduced_precision_reduction = True


@pytest.mark.parametrize("precision", ["tf32", "ieee", "none"])
@pytest.mark.parametrize("reduced", [True, False])
def test_nothing_is_rounded_and_the_choice_comes_back(precision, reduced):
    MATMUL.fp32_precision, MATMUL.allow_bf16_reduced_precision_reduction = precision, reduced
    PROCESSOR.fp32_precision = "bf16"
    before = choices()
    with full_precision():
        assert MATMUL.fp32_precision in ("ieee", "none")
        assert PROCESSOR.fp32_precision == "ieee"
        assert not MATMUL.allow_bf16_reduced_precision_reduction
    assert choices() == before


def test_the_choice_comes_back_after_an_error():
    MATMUL.fp32_precision = "tf32"
    with pytest.raises(OSError, match="gone"), full_precision():
        raise OSError("gone")
    assert MATMUL.fp32_precision == "tf32"
    with full_precision():
        assert MATMUL.fp32_precision == "ieee"


@pytest.mark.parametrize("word", ["high", "medium"])
def test_the_choice_may_have_been_made_in_the_old_way(word):
    torch.set_float32_matmul_precision(word)
    with full_precision():
        assert MATMUL.fp32_precision == PROCESSOR.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == word


def test_products_are_those_of_float32():
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    exact = values @ values
    PROCESSOR.fp32_precision = "bf16"
    with full_precision():
        assert torch.equal(values @ values, exact)


def test_a_thread_that_leaves_does_not_let_others_round():
    MATMUL.fp32_precision = "tf32"
    inside, go, seen = threading.Event(), threading.Event(), []

    def other():
        with full_precision():
            inside.set()
            go.wait()
            seen.append(MATMUL.fp32_precision)

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        assert not inside.wait(0.05)
    inside.wait()
    go.set()
    thread.join()
    assert seen == ["ieee"]
    assert MATMUL.fp32_precision == "tf32"
