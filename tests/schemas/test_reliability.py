from schemas.dia_source import CAUSES, DIA_SOURCE
from schemas.reliability import FEATURES, RESIDUALS, STATIC, UNKNOWN


def test_every_feature_has_a_name_of_its_own():
    assert len(set(FEATURES)) == len(FEATURES)
    assert FEATURES[-len(RESIDUALS + STATIC) :] == RESIDUALS + STATIC
    assert len(UNKNOWN) == len(STATIC)


def test_every_cause_counts_by_its_column_of_the_catalogue():
    columns = {f"{name}Evidence" for name, _, _ in CAUSES}
    assert columns == {name for name in FEATURES if name in DIA_SOURCE.schema.names}
