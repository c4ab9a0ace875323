import sqlite3
from datetime import date

import pytest

from flows.fetch.ztf_quadrant import COLUMNS
from flows.fetch.ztf_search import ZtfSearch, read_answer
from kernels.night import night_label
from schemas.errors import Misconfigured

NIGHT = date(2018, 4, 11)


def chosen(search, rows, night=NIGHT):
    """Let SQLite judge which rows (obsjd, imgtypecode, field, filtercode, ccdid, qid) a question is about."""
    table = sqlite3.connect(":memory:")
    table.execute("create table sci (obsjd, imgtypecode, field, filtercode, ccdid, qid)")
    table.executemany("insert into sci values (?, ?, ?, ?, ?, ?)", rows)
    found = table.execute(f"select * from sci where {search.query(night)['WHERE']}").fetchall()
    table.close()
    return found


def test_a_night_is_that_of_the_exposures_that_are_published():
    palomar, row = -116.8597, ("o", 600, "zr", 5, 2)
    times = [2458219.5 + step / 100 for step in range(300)]
    found = chosen(ZtfSearch(NIGHT, NIGHT), [(time, *row) for time in times])
    labels = {time: night_label(time - 2400000.5, palomar) for time in times}
    assert [time for time, *_ in found] == [time for time in times if labels[time] == "20180411"]
    assert len(found) == 100


def test_every_filter_counts():
    row = (2458220.5, "o", 600, "zr", 5, 2)
    others = [(*row[:place], value, *row[place + 1 :]) for place, value in enumerate((2458225.5, "f", 601, "zg", 6, 3))]
    assert chosen(ZtfSearch(NIGHT, NIGHT, (600,), ("r", "i"), (5, 7), (1, 2)), [row, *others]) == [row]
    assert len(chosen(ZtfSearch(NIGHT, NIGHT), [row, *others])) == 5


def test_question_names_columns_and_form():
    query = ZtfSearch(NIGHT, NIGHT).query(NIGHT)
    assert query["ct"] == "csv"
    assert query["COLUMNS"] == "field,ccdid,qid,filtercode,imgtypecode,filefracday"


def test_each_night_is_one_question():
    assert ZtfSearch(date(2018, 4, 29), date(2018, 5, 1)).nights == (
        date(2018, 4, 29), date(2018, 4, 30), date(2018, 5, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--to", (date(2018, 4, 12), NIGHT)),
        ("--field", (NIGHT, NIGHT, (-1,))),
        ("--filter", (NIGHT, NIGHT, (), ("u",))),
        ("--ccdid", (NIGHT, NIGHT, (), (), (0,))),
        ("--qid", (NIGHT, NIGHT, (), (), (), (5,))),
    ],
)
def test_nonsense_is_refused(option, given):
    with pytest.raises(Misconfigured) as caught:
        ZtfSearch(*given)
    assert caught.value.where == option


def test_answer_is_read_whatever_else_it_holds():
    text = "meta_id,filefracday,field,ccdid,qid,filtercode,imgtypecode\n" + "".join(
        f"{n},20180411467847,600,{n},2,zr,o\n" for n in (7, 5, 7)
    )
    assert [quadrant.ccd for quadrant in read_answer(text, "here")] == [5, 7]
    assert read_answer(",".join(COLUMNS) + "\n", "here") == ()


@pytest.mark.parametrize("text", ["", "<html>maintenance</html>", "x" * 200_000, "field,ccdid\n600,5\n"])
def test_other_answers_are_refused(text):
    with pytest.raises(Misconfigured, match="no table") as caught:
        read_answer(text, "here")
    assert caught.value.code == "bad_answer"
