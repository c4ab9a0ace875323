import asyncio

import pytest

from flows.fetch.side_by_side import side_by_side


def test_all_is_done_a_few_at_a_time_in_order():
    busy, most, begun = 0, 0, []

    async def work(item):
        nonlocal busy, most
        begun.append(item)
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    asyncio.run(side_by_side(range(20), work, 3))
    assert begun == list(range(20))
    assert most == 3


def test_the_first_error_stops_all():
    begun = []

    async def work(item):
        begun.append(item)
        if item == 2:
            raise ValueError("two")
        await asyncio.sleep(3600)

    with pytest.raises(ValueError, match="two"):
        asyncio.run(side_by_side(range(9), work, 3))
    assert begun == [0, 1, 2]
