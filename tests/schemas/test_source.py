from schemas.source import SOURCE, SourceFlag


def test_flags_are_distinct_bits_and_the_column_names_them():
    values = [flag.value for flag in SourceFlag]
    assert sorted(values) == [1 << n for n in range(len(values))]
    doc = SOURCE.schema.field("flags").metadata[b"doc"].decode()
    assert all(f"{flag.value} {flag.name}" in doc for flag in SourceFlag)


def test_is_published_although_objects_are_made_of_it():
    assert SOURCE.product
