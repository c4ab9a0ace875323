from flows.adapters.sources import Source
from flows.source_name import name_of


def test_tells_images_of_a_stack_apart():
    assert name_of(Source("s3://night/a.fits")) == "s3://night/a.fits"
    assert name_of(Source("stack.npz", index=3)) == "stack.npz[3]"
