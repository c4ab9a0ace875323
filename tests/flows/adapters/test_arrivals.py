import inspect

import pytest

from flows.adapters.arrivals import Arrivals
from flows.adapters.folder_arrivals import FolderArrivals
from flows.adapters.kafka_arrivals import KafkaArrivals


@pytest.mark.parametrize("kind", [FolderArrivals, KafkaArrivals])
def test_every_place_offers_what_a_stream_asks_for(kind):
    for name, wanted in vars(Arrivals).items():
        if not name.startswith("_") and inspect.isfunction(wanted):
            assert (
                inspect.signature(getattr(kind, name)).parameters.keys() == inspect.signature(wanted).parameters.keys()
            )
    assert isinstance(inspect.getattr_static(kind, "waiting"), property)
