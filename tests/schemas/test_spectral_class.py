from schemas.spectral_class import SPECTRAL_CLASS, TYPE_COLUMNS
from schemas.stellar_class import STELLAR_CLASSES


def test_a_column_for_each_class_and_each_type():
    names = SPECTRAL_CLASS.schema.names
    assert {"pStar", "pGalaxy", "pQuasar", "classLabel", "typeLabel", "modelVersion", "typeModelVersion"} <= set(names)
    assert tuple(TYPE_COLUMNS) == STELLAR_CLASSES
    assert set(TYPE_COLUMNS.values()) <= set(names)


def test_names_differ_in_more_than_case():
    names = [name.lower() for name in SPECTRAL_CLASS.schema.names]
    assert len(names) == len(set(names))
