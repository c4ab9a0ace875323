import sqlite3
from datetime import date

import pytest

from flows.inputs.archive.ztf_search import COLUMNS, ZtfQuadrant, ZtfSearch, read_answer
from flows.inputs.siblings import beside, siblings
from kernels.sky.times import night_label
from schemas.errors import Misconfigured

ROW = {
    "field": "600", "ccdid": "5", "qid": "2", "filtercode": "zr", "imgtypecode": "o", "filefracday": "20180411467847",
}  # fmt: skip


def test_places_are_those_of_the_archives_documentation():
    quadrant = ZtfQuadrant.of_row(ROW, "here")
    stem = "sci/2018/0411/467847/ztf_20180411467847_000600_zr_c05_o_q2"
    assert {product: quadrant.path(product) for product in ("difference", "science", "mask", "psf", "template")} == {
        "difference": f"{stem}_scimrefdiffimg.fits.fz",
        "science": f"{stem}_sciimg.fits",
        "mask": f"{stem}_mskimg.fits",
        "psf": f"{stem}_diffimgpsf.fits",
        "template": "ref/000/field000600/zr/ccd05/q2/ztf_000600_zr_c05_q2_refimg.fits",
    }
    assert (
        ZtfQuadrant.of_row({**ROW, "field": "1574", "ccdid": "16"}, "")
        .path("template")
        .startswith("ref/001/field001574/zr/ccd16/q2/")
    )


def test_a_run_takes_the_files_for_one_exposure():
    quadrant = ZtfQuadrant.of_row(ROW, "here")
    names = [quadrant.path(product).split("/")[-1] for product in ("science", "mask", "psf", "template")]
    difference = quadrant.path("difference").split("/")[-1]
    assert dict(siblings(difference, beside(names))) == dict(
        zip(("science", "mask", "psf", "template"), names, strict=True)
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("field", "../1"), ("field", ""), ("ccdid", "17"), ("ccdid", "0"), ("qid", "5"), ("filtercode", "z/"),
        ("imgtypecode", ".."), ("filefracday", "2018041146784"), ("filefracday", None),
    ],
)  # fmt: skip
def test_what_cannot_be_part_of_a_name_is_refused(column, value):
    with pytest.raises(Misconfigured, match=f"column {column}") as caught:
        ZtfQuadrant.of_row({**ROW, column: value}, "here")
    assert caught.value.code == "bad_answer"


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
    with pytest.raises(Misconfigured, match="not a table") as caught:
        read_answer(text, "here")
    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    ("name", "values", "beyond"),
    [("ccds", (1, 16), (0, 17)), ("quadrants", (1, 4), (0, 5)), ("fields", (0, 999_999), (-1, 1_000_000))],
)
def test_numbers_are_those_of_the_camera_and_of_the_fields(name, values, beyond):
    assert getattr(ZtfSearch(NIGHT, NIGHT, **{name: values}), name) == values
    for value in beyond:
        with pytest.raises(Misconfigured, match=f"{value} was given, must be"):
            ZtfSearch(NIGHT, NIGHT, **{name: (value,)})


def test_nights_are_all_from_the_first_to_the_last():
    assert ZtfSearch(NIGHT, NIGHT).nights == (NIGHT,)
    assert ZtfSearch(date(2018, 2, 27), date(2018, 3, 1)).nights == (
        date(2018, 2, 27), date(2018, 2, 28), date(2018, 3, 1),
    )  # fmt: skip
