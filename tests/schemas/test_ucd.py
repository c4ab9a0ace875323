import pytest
from astropy.io.votable.ucd import check_ucd

from schemas.dataset import TableOf
from schemas.forced import FORCED_SOURCE
from schemas.truth import TRUTH_OBJECT
from schemas.ucd import ucd_of
from stages import PIPELINE

PUBLISHED = [stage.gives for stage in PIPELINE if isinstance(stage.gives, TableOf) and stage.per != "tile"]
PUBLISHED = [one for one in PUBLISHED if one.name != "streak"] + [FORCED_SOURCE, TRUTH_OBJECT]
FIELDS = [pytest.param(one, field, id=f"{one.name}.{field.name}") for one in PUBLISHED for field in one.schema]


@pytest.mark.parametrize(("dataset", "field"), FIELDS)
def test_every_published_column_has_a_unit_and_a_valid_ucd(dataset, field):
    assert b"unit" in field.metadata
    ucd = field.metadata[b"ucd"].decode()
    assert ucd
    assert check_ucd(ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("dataset", PUBLISHED, ids=lambda one: one.name)
def test_a_table_has_one_main_id_and_one_main_position_at_most(dataset):
    main = [field.name for field in dataset.schema if b"meta.main" in field.metadata[b"ucd"]]
    ids = [name for name in main if name not in ("ra", "dec")]
    assert len(main) - len(ids) in (0, 2)
    assert len(ids) <= 1 or dataset.name == "dia_link"


def test_errors_and_bands_follow_from_what_they_are_of():
    assert ucd_of("raErr") == "stat.error;pos.eq.ra"
    assert ucd_of("g_psfFluxErr") == "stat.error;phot.flux.density;em.opt.B"
    assert ucd_of("z_apMag0") == "phot.mag;em.opt.I"
    assert ucd_of("gMinusRErr") == "stat.error;phot.color"
    assert ucd_of("pStar") == "stat.probability"
    assert ucd_of("psfFlux") == "phot.flux.density;em.opt"
    assert ucd_of("unheardOf") == ""
