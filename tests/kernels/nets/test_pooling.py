import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.nets.pooling import max_pool_4_2


@given(h=st.integers(4, 30), w=st.integers(4, 30), seed=st.integers(0, 100))
def test_equals_torch(h, w, seed):
    maps = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(max_pool_4_2(maps), torch.nn.functional.max_pool2d(maps, 4, 2))
