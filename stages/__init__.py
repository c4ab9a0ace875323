"""Pipeline: one file per stage, plus the stages registered by other packages."""

from importlib import import_module

from schemas.stage import Stage, registered_stages

REGISTRY = (
    "detect",
    "merge",
    "measure",
    "inject",
    "choose_injected",
    "find_sources",
    "negate",
    "count_negated",
    "predict_known",
    "match_known",
    "gather_objects",
    "cut_cutouts",
    "link_hosts",
    "link_tracklets",
    "fit_tracklets",
    "link_nights",
    "star_galaxy",
    "spectral_class",
    "choose_galaxies",
    "cut_pictures",
    "morphology",
    "anomaly",
    "gather_dia_objects",
    "link_dia_objects",
    "gather_static_objects",
)
"""Our own stages, by the names of their files: each holds one `STAGE`."""

PIPELINE: tuple[Stage, ...] = (*(import_module(f"stages.{name}").STAGE for name in REGISTRY), *registered_stages())
