"""A stage of another package: it counts the detections of an exposure, with a model and a setting of its own."""

import pyarrow as pa

from schemas.dataset import TableOf, column
from schemas.dia_source import DIA_SOURCE
from schemas.settings import Section
from schemas.stage import Model, Stage, as_found

TOY = TableOf("toy", pa.schema([column("total", pa.float64(), "", "Detections, weighed.", ucd="meta.number")]))


class ToySettings(Section):
    """Settings of the toy."""

    model: str = "toy"
    factor: float = 1.0


def build(weights, settings):
    """Return a callable that weighs a number."""

    def weigh(number):
        return float(number) * float(weights.arrays["gain"][0]) * settings.factor

    weigh.card = weights.card
    return weigh


def toy(inputs, context):
    """Return one row: the number of detections, times the model's gain and the factor of the settings."""
    return pa.table({"total": [context.models["toy"](len(inputs["dia_source"]))]}, schema=TOY.schema)


def memory(shape, settings):
    """Return the bytes that a call takes."""
    return 8


STAGE = Stage(
    name="toy",
    version="7",
    per="exposure",
    needs=(DIA_SOURCE,),
    gives=TOY,
    run=toy,
    settings=ToySettings,
    models=(Model("toy", "toy.model", build),),
    memory=memory,
    warm_up=as_found,
)
