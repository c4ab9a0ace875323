"""A small model for stars and galaxies, and simulated cutouts."""

from functools import cache, partial

import numpy as np

from flows.inputs.cutout_files import LabelledCutouts
from flows.pipeline.weights import write_model
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP
from flows.training.cutout_fit import CutoutFit
from flows.training.fits import TreeFit
from flows.training.star_galaxy_inputs import views_of
from flows.training.star_galaxy_own import CutoutSample, OwnPlan, card_of, fit_baselines, fit_own, limits, said_of
from kernels.objects.star_galaxy_weights import arrays_of

PLAN = OwnPlan(CutoutFit(epochs=6, patience=6, batch=32, rate=4e-3), trees=TreeFit(trees=15, leaves=5, least=10))


@cache
def cutouts(fields=6, first=0, count=50):
    """Labelled cutouts of some fields."""
    drawn = [draw_field(DEEP, 9, first + field, count) for field in range(fields)]
    rows = [row for one in drawn for row in one.rows]
    return LabelledCutouts(
        np.concatenate([one.cutouts for one in drawn]),
        np.array([row["label"] == "star" for row in rows], np.int64),
        np.array([row["field"] for row in rows]),
        np.array([row["iMag"] for row in rows]),
    )


def sample(data, bands=4):
    return CutoutSample(views_of(data, bands, 26), data.label)


def images_alone(data):
    """The i band, without PSF."""
    return LabelledCutouts(data.cutouts[:, 2:3], data.label, data.group, data.magnitude)


@cache
def small(psf="with"):
    """Arrays and card of a model that learnt for a moment."""
    change = (lambda data: data) if psf == "with" else images_alone
    bands = 4 if psf == "with" else 1
    train, check = sample(change(cutouts()), bands), sample(change(cutouts(2, 6)), bands)
    fitted = fit_own(train, check, PLAN, 1, lambda line: None)
    known, slope, offset = limits(partial(said_of, fitted.nets), train, check, 1)
    name = "multi_band" if psf == "with" else "single_band"
    card = card_of(name, "7", psf, 26, 1, known, slope, offset) | {"training": {}, "metrics": {}}
    return arrays_of(fitted.nets, known, fit_baselines(train, PLAN, 1)), card


def write_small(folder, psf="with"):
    """Write it where `load_model` finds it."""
    return write_model(folder, *small(psf))
