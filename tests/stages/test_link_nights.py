"""Links over nights: what is asked of whoever links a window, and what is told of its answer."""

import numpy as np
import pyarrow as pa
import pytest

from kernels.linking.orbits import Link
from kernels.linking.tracklets import PAIR_RATE
from schemas.errors import BadInput
from schemas.settings import LinkNightsSettings
from schemas.stage import Context
from schemas.tracklets import LINK_SOURCE, NIGHT_WINDOW, TRACKLET
from stages import link_nights as module
from stages.link_nights import STAGE

MJD = 60000.2


def window(*rows):
    """Rows of `NIGHT_WINDOW`: (id, night from 0, hour, tracklet, designation); the last night is the own one."""
    last = max(row[1] for row in rows)
    made = []
    for identity, night, hour, tracklet, name in rows:
        mjd = MJD + night + hour / 24
        known = {"diaSourceId": identity, "midpointMjdTai": mjd, "ra": 150 + 0.2 * (mjd - MJD), "dec": 20.0}
        known |= {"night": f"2023022{5 + night}"[:8], "own": night == last, "trackletId": tracklet}
        made.append(known | {"raErr": 3e-5, "decErr": 3e-5, "designation": name, "obscode": "I41"})
    return pa.Table.from_pylist(made, schema=NIGHT_WINDOW.schema)


def linked(table, answer=()):
    """What is asked of a window, and what the stage makes of the answer."""
    asked = []
    context = Context(settings=LinkNightsSettings(nights=5), link=lambda window: asked.append(window) or list(answer))
    made = STAGE({NIGHT_WINDOW.name: table, TRACKLET.name: TRACKLET.empty()}, context).rows
    return asked, made.to_pylist()


THREE = [
    (11, 0, 0.0, 11, "A"), (12, 0, 1.0, 11, "A"), (21, 1, 0.0, 21, "A"), (22, 1, 1.0, 21, ""), (31, 2, 0.0, 31, ""),
    (32, 2, 1.0, 31, "B"),
]  # fmt: skip


def test_tracklets_and_pairs_of_detections_in_none_are_asked_for():
    alone = [(41, 2, 0.1, None, ""), (42, 2, 1.1, None, "")]
    (asked,), _ = linked(window(*reversed([*THREE, *alone])))
    ids = [11, 12, 21, 22, 31, 41, 32, 42]  # by time
    assert len(asked.mjd) == 8
    assert np.all(np.diff(asked.mjd) > 0)
    groups = [[ids[place] for place in asked.members[asked.group == number]] for number in range(asked.group[-1] + 1)]
    assert groups[:3] == [[11, 12], [21, 22], [31, 32]]
    assert groups[3:] == [[41, 42]]


def test_rows_are_those_of_links_that_end_in_the_night():
    answer = [Link((0, 2, 5), 3, 0.25, 2.5, 0.1, 7.0), Link((1, 3), 2, 0.5, 1.5, 0.2, 3.0)]
    _, rows = linked(window(*THREE), answer)
    assert [row["diaSourceId"] for row in rows] == [11, 21, 32]
    assert {
        tuple(row[name] for name in ("linkId", "nSources", "nNights", "linkRms", "a", "e", "i")) for row in rows
    } == {(11, 3, 3, 0.25, 2.5, 0.1, 7.0)}
    assert [(row["sourceNight"], row["trackletId"]) for row in rows] == [
        ("20230225", 11), ("20230226", 21), ("20230227", 31)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "name"), [((0, 1, 4, 5), "A"), ((0, 3, 4, 5), ""), ((0, 5), ""), ((4, 5), "B"), ((3, 4, 5), "")]
)
def test_a_link_has_the_name_that_half_of_its_detections_have(members, name):
    _, rows = linked(window(*THREE), [Link(members, 3, 0.2, 2.0, 0.1, 5.0)])
    assert {row["designation"] for row in rows} == {name}


def test_the_fastest_pairs_are_told(monkeypatch):
    answer = [Link((0, 2, 5), 3, 0.25, 2.5, 0.1, 7.0)]
    assert {row["pairRateMax"] for row in linked(window(*THREE), answer)[1]} == {np.float32(PAIR_RATE)}
    alone = [(41 + n, 2, 0.1 + 0.1 * n, None, "") for n in range(6)]
    monkeypatch.setattr(module, "MOST_TRACKLETS", 4)
    (asked,), rows = linked(window(*THREE, *alone), answer)
    assert asked.group[-1] + 1 <= 4
    assert all(0 < row["pairRateMax"] < PAIR_RATE for row in rows)


@pytest.mark.parametrize("rows", [THREE[:4], THREE[:2], [(*row[:1], 0, *row[2:]) for row in THREE]])
def test_fewer_than_three_nights_are_not_asked_for(rows):
    assert linked(window(*rows)) == ([], [])


def test_a_night_without_detections_is_not_asked_for():
    table = window(*THREE)
    table = table.set_column(table.column_names.index("own"), NIGHT_WINDOW.schema.field("own"), [[False] * 6])
    assert linked(table) == ([], [])
    assert linked(NIGHT_WINDOW.empty()) == ([], [])


def test_too_many_tracklets_have_a_remedy(monkeypatch):
    monkeypatch.setattr(module, "MOST_TRACKLETS", 3)
    assert len(linked(window(*THREE))[0]) == 1
    monkeypatch.setattr(module, "MOST_TRACKLETS", 2)
    with pytest.raises(BadInput, match=r"3 tracklets within 5 nights are more than 2\. To fix, set link_nights.nights"):
        linked(window(*THREE))


def test_ids_that_no_float_can_tell_apart_stay_as_they_are():
    first = 2**62 + 1
    rows = [(first + n, night, hour, first + 2 * (n // 2), name) for n, (_, night, hour, _, name) in enumerate(THREE)]
    _, found = linked(window(*rows), [Link(tuple(range(6)), 3, 0.2, 2.0, 0.1, 5.0)])
    assert [row["diaSourceId"] for row in found] == [first + n for n in range(6)]
    assert [row["trackletId"] for row in found] == [first, first, first + 2, first + 2, first + 4, first + 4]
    assert LINK_SOURCE.schema.field("linkId").type == pa.int64()
