"""Stage: galaxies of a patch of the sky that are large enough to classify from a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kernels.objects.source_photometry import seen_once
from kernels.pictures.galaxy_stamps import size_over_psf
from schemas.class_table import STAR_GALAXY
from schemas.dataset import DatasetError
from schemas.galaxy_pictures import GALAXY
from schemas.objects import OBJECT, SourceFlag
from schemas.settings import ChooseGalaxiesSettings
from schemas.stage import Context, Stage


def choose_galaxies(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the resolved galaxies, without bleeds of saturated stars and transient streaks and ghosts.

    Parameters
    ----------
    inputs
        ``object``, and ``star_galaxy`` with the same rows in the same order.
    context
        The section `ChooseGalaxiesSettings`.

    Returns
    -------
    pyarrow.Table
        Rows of `GALAXY`, in the order of the objects. Objects that touch saturated pixels or a border are left out, as
        are objects found on only one of several exposures.

    Raises
    ------
    DatasetError
        The rows of ``star_galaxy`` are not those of ``object``.
    """
    settings: ChooseGalaxiesSettings = context.settings
    objects, classes = inputs[OBJECT.name], inputs[STAR_GALAXY.name]
    if not classes["objectId"].equals(objects["objectId"]):
        raise DatasetError("star_galaxy must have the rows of object, in their order. To fix, run it on these objects.")
    sizes = size_over_psf(objects)
    likely = np.nan_to_num(classes["pGalaxy"].to_numpy()) >= settings.least_p_galaxy
    whole = (objects["flags"].to_numpy() & (SourceFlag.SATURATED | SourceFlag.EDGE)) == 0
    chosen = likely & (sizes >= settings.least_size) & whole & ~seen_once(objects)
    table = objects.append_column("sizeOverPsf", pa.array(sizes.astype(np.float32)))
    return table.filter(pa.array(chosen)).select(GALAXY.schema.names).cast(GALAXY.schema)


STAGE = Stage(
    name="choose_galaxies",
    version="2",
    per="patch",
    needs=(OBJECT, STAR_GALAXY),
    gives=GALAXY,
    run=choose_galaxies,
    settings=ChooseGalaxiesSettings,
)
