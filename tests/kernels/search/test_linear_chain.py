import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.search import linear_chain
from kernels.search.fused_net import Dense, fuse
from kernels.search.linear_chain import LinearChain, convolves_bfloat16, has_bfloat16
from tests.support.fused_fixture import network

ROOT = Path(__file__).parents[3]


def chain_of_torch(net, features):
    with torch.no_grad():
        values = torch.from_numpy(features)
        for layer in (net.fc1, net.fc2, net.fc3):
            values = torch.relu(layer(values))
        scores = net.fc4(values).numpy()
    return scores[:, 1] - scores[:, 0]


def dense(net):
    fused = fuse(net)
    return (*fused.hidden, fused.last)


def some(n):
    return np.random.default_rng(0).uniform(0, 2, (n, 12)).astype(np.float32)


@pytest.mark.parametrize("batch", [7, 64, 1024])
def test_log_odds_are_those_of_torch(batch):
    net, features = network(), some(300)
    made = LinearChain(dense(net), "float32", batch)(features)
    np.testing.assert_allclose(made, chain_of_torch(net, features), atol=1e-6)


def test_bfloat16_loses_little():
    net, features = network(), some(2000)
    made, exact = LinearChain(dense(net), "bfloat16", 512)(features), chain_of_torch(net, features)
    assert 0 < np.abs(made - exact).max() < 0.02 * np.abs(exact).max()


def test_a_processor_without_avx512_computes_bfloat16_too():
    """oneDNN packs no such weights there; it reads what it may use once, when it is loaded."""
    code = (
        "import sys, numpy as np; from tests.kernels.search.test_linear_chain import dense, network, some, LinearChain;"
        "np.save(sys.stdout.buffer, LinearChain(dense(network()), 'bfloat16', 512)(some(300)))"
    )
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", code], env=older, capture_output=True, check=True, cwd=ROOT)
    made, exact = np.load(io.BytesIO(run.stdout)), chain_of_torch(network(), some(300))
    assert 0 < np.abs(made - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_log_odds_do_not_depend_on_the_place_in_a_batch_or_on_threads(precision):
    features, chain = some(700), LinearChain(dense(network()), precision, 256)
    order = np.random.default_rng(1).permutation(700)
    before = torch.get_num_threads()
    found = chain(features)
    assert (chain(features[order]) == found[order]).all()
    for count in (1, 3, 64, 200, 257):
        assert (chain(features[:count]) == found[:count]).all()
    for batch in (64, 512, 1024):
        assert (LinearChain(dense(network()), precision, batch)(features) == found).all()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert (LinearChain(dense(network()), precision, 256)(features) == found).all()
    finally:
        torch.set_num_threads(before)


def test_without_onednn_torch_itself_is_used(monkeypatch):
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    net, features = network(), some(100)
    np.testing.assert_allclose(
        LinearChain(dense(net), "float32", 64)(features), chain_of_torch(net, features), atol=1e-6
    )


def test_no_windows_give_no_log_odds():
    assert LinearChain(dense(network()), "float32", 64)(some(0)).shape == (0,)


def test_bfloat16_is_told_from_the_processor():
    flags = Path("/proc/cpuinfo").read_text().split()
    assert has_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & set(flags))
    assert convolves_bfloat16() == (has_bfloat16() and ("amx_tile" in flags or "GenuineIntel" not in flags))


@pytest.mark.parametrize("packed", [True, False])
def test_hidden_layers_have_a_relu_and_the_last_has_none(packed, monkeypatch):
    if not packed:
        monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    one = Dense(np.array([[1.0], [-1.0]], np.float32), np.array([0.0, 0.0], np.float32))
    last = Dense(np.array([[-1.0, -2.0]], np.float32), np.array([0.5], np.float32))
    found = LinearChain((one, last), "float32", 2)(np.array([[3.0], [-4.0], [0.0]], np.float32))
    np.testing.assert_array_equal(found, [-2.5, -7.5, 0.5])


def test_the_first_layer_is_float32_and_the_others_what_is_asked():
    for precision, small in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        kinds = [layer.bias.dtype for layer in LinearChain(dense(network()), precision, 64)._packed]
        assert kinds == [torch.float32, small, small, small]


def test_batches_are_filled_up_to_whole_steps_of_64_where_that_is_enough(monkeypatch):
    chain = LinearChain(dense(network()), "float32", 1024)
    assert [chain._padded(count) for count in (1, 63, 64, 65, 128, 1000)] == [64, 64, 64, 128, 128, 1024]
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    plain = LinearChain(dense(network()), "float32", 500)
    assert [plain._padded(count) for count in (1, 500)] == [500, 500]


@pytest.mark.parametrize("names", [("_is_avx512_bf16_supported",), ("_is_amx_tile_supported",), ()])
def test_either_unit_for_bfloat16_will_do(names, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in names, raising=False)
    assert has_bfloat16() == bool(names)
    for intel in (True, False):
        monkeypatch.setattr(linear_chain, "_is_of_intel", lambda intel=intel: intel)
        assert convolves_bfloat16() == ("_is_amx_tile_supported" in names or (bool(names) and not intel))
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert not has_bfloat16()


@pytest.mark.parametrize(
    ("told", "intel"), [("vendor_id : GenuineIntel\n", True), ("vendor_id : AuthenticAMD\n", False), (None, False)]
)
def test_a_processor_is_of_intel_where_the_system_says_so(told, intel, monkeypatch):
    def read_text(path):
        assert str(path) == "/proc/cpuinfo"
        if told is None:
            raise FileNotFoundError(path)
        return told

    monkeypatch.setattr(linear_chain.Path, "read_text", read_text)
    assert linear_chain._is_of_intel() is intel
