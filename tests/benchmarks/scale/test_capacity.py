import re

from benchmarks.scale.capacity import price_line
from benchmarks.scale.capacity_model import SURVEYS, constants, need
from schemas.settings import Settings

ZTF = SURVEYS["ztf"]
NEED = need(ZTF.shape, constants("ztf", science=False), Settings())


def numbers(text):
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.?\d*", text)]


def test_prices_are_told_with_what_they_are_for():
    workers, storage = price_line(ZTF, NEED, 0.05, 0.02).splitlines()
    hours, each, night, year, nights = numbers(workers)
    assert (hours, each, nights) == (round(NEED.worker_s * ZTF.exposures / 3600, 1), 0.05, ZTF.nights)
    assert abs(night - hours * each) < 0.01 * night
    assert abs(year - night * nights) < 0.01 * year
    kept, price, cost = numbers(storage)
    assert price == 0.02
    assert abs(cost - kept * price * 12) < 0.01 * cost


def test_without_prices_nothing_is_said():
    assert price_line(ZTF, NEED, None, None) == ""
