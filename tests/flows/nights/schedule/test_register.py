import pytest

from flows.nights.schedule.register import Deployment, register
from schemas.errors import Misconfigured

GIVEN = Deployment("nightly", ("/data/{night}",), "/out", "America/Los_Angeles", "0 9 * * *")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cron": "every night"}, r'every night: is no schedule.*"0 9 \* \* \*"'),
        ({"timezone": "Palomar"}, "Palomar: is no time zone"),
        ({"inputs": ("/data/{date}",)}, r"/data/\{date\}: has braces that are no night"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_server_hears_of_it(changed, said):
    with pytest.raises(Misconfigured, match=said):
        register(Deployment(**{**vars(GIVEN), **changed}))


def test_parameters_are_those_of_the_flow():
    from flows.nights.schedule.scheduled_night import scheduled_night

    assert scheduled_night.validate_parameters(GIVEN.parameters).keys() == scheduled_night.parameters.properties.keys()
