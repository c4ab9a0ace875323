from schemas.received_alert import RECEIVED_ALERT


def test_an_alert_may_lack_all_but_what_it_is_of_where_and_when():
    """A detection of the stream of another survey need not have been measured in any way that we know."""
    known = {field.name for field in RECEIVED_ALERT.schema if not field.nullable}
    assert known == {
        "diaSourceId", "visit", "detector", "midpointMjdTai", "ra", "dec", "earlierDetections", "topicPartition",
        "topicOffset",
    }  # fmt: skip
