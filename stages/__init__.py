"""The pipeline: one file per stage, and the stages that other packages register."""

from schemas.stage import registered_stages
from stages import (
    cut_cutouts,
    detect,
    find_sources,
    gather_objects,
    inject,
    link_hosts,
    measure,
    merge,
    spectral_class,
    star_galaxy,
)

PIPELINE = (
    detect.STAGE,
    merge.STAGE,
    measure.STAGE,
    inject.STAGE,
    find_sources.STAGE,
    gather_objects.STAGE,
    cut_cutouts.STAGE,
    link_hosts.STAGE,
    star_galaxy.STAGE,
    spectral_class.STAGE,
    *registered_stages(),
)
